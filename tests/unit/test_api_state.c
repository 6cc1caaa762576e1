/* The API's state and store: what readers see and when, restarts, history, a disk that fails. */
#include "cluster/api/object.h"
#include "cluster/api/state.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

struct fixture {
    char folder[64];
    char *path;
    struct loop *loop;
    struct state *state;
    const struct resource *resource;
    int done;
    int failed;
    int changes;
};

static void count_done(void *arg, const struct error *err) {
    struct fixture *fixture = arg;
    fixture->done++;
    fixture->failed += err != NULL ? 1 : 0;
    if (state_in_flight(fixture->state) == 0) {
        loop_stop(fixture->loop);
    }
}

static void count_change(void *arg, const struct change *change) {
    struct fixture *fixture = arg;
    assert_non_null(change->text);
    fixture->changes++;
}

static void open_state(struct fixture *fixture) {
    struct error err = {0};
    fixture->loop = loop_new();
    if (state_open(fixture->loop, fixture->path, &fixture->state, &err) < 0) {
        fail_msg("%s", err.message);
    }
    state_listen(fixture->state, count_change, fixture);
}

static void close_state(struct fixture *fixture) {
    state_close(fixture->state);
    loop_free(fixture->loop);
}

static int set_up(void **state) {
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/davit-test-state.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->path = xasprintf("%s/store.db", fixture->folder);
    fixture->resource = resource_find("", "v1", "configmaps");
    open_state(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    close_state(fixture);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        cleanup_free char *path = xasprintf("%s%s", fixture->path, suffixes[i]);
        (void)unlink(path);
    }
    (void)rmdir(fixture->folder);
    free(fixture->path);
    free(fixture);
    return 0;
}

static json_t *object_of(const char *name, int value) {
    return json_pack("{s:{s:s, s:s}, s:{s:i}}", "metadata", "name", name, "namespace", "ns", "data", "v", value);
}

static void put(struct fixture *fixture, const char *name, int value) {
    cleanup_free char *key = object_key("ns", name);
    struct transaction *transaction = transaction_new(fixture->state);
    (void)transaction_put(transaction, fixture->resource, key, object_of(name, value));
    transaction_submit(transaction, count_done, fixture);
}

static void test_readers_see_only_what_is_stored(void **arg) {
    struct fixture *fixture = *arg;
    put(fixture, "a", 1);
    put(fixture, "a", 2);
    assert_null(state_get(fixture->state, fixture->resource, "ns/a"));
    assert_int_equal(json_int_at(state_latest(fixture->state, fixture->resource, "ns/a"), "data.v", 0), 2);
    assert_int_equal(state_revision(fixture->state), 0);
    loop_run(fixture->loop);
    assert_int_equal(fixture->done, 2);
    assert_int_equal(fixture->changes, 2);
    assert_int_equal(json_int_at(state_get(fixture->state, fixture->resource, "ns/a"), "data.v", 0), 2);
    assert_int_equal(state_revision(fixture->state), 2);
    assert_string_equal(object_revision_text(state_get(fixture->state, fixture->resource, "ns/a")), "2");
}

static void test_restart_keeps_objects_and_revision(void **arg) {
    struct fixture *fixture = *arg;
    put(fixture, "a", 1);
    put(fixture, "b", 1);
    struct transaction *transaction = transaction_new(fixture->state);
    assert_string_equal(object_revision_text(transaction_delete(transaction, fixture->resource, "ns/b")), "3");
    assert_null(transaction_delete(transaction, fixture->resource, "ns/none"));
    transaction_submit(transaction, count_done, fixture);
    loop_run(fixture->loop);
    close_state(fixture);
    open_state(fixture);
    assert_int_equal(state_revision(fixture->state), 3); /* of the deletion */
    assert_int_equal(state_count(fixture->state, fixture->resource), 1);
    assert_int_equal(json_int_at(state_get(fixture->state, fixture->resource, "ns/a"), "data.v", 0), 1);
    assert_true(state_history_find(fixture->state, fixture->resource, 2) < 0); /* the history does not outlive the process */
    assert_true(state_history_find(fixture->state, fixture->resource, 3) >= 0);
    put(fixture, "c", 1);
    loop_run(fixture->loop);
    assert_string_equal(object_revision_text(state_get(fixture->state, fixture->resource, "ns/c")), "4");
}

static void test_lists_are_sorted_and_bounded_by_namespace(void **arg) {
    struct fixture *fixture = *arg;
    static const char *const names[] = {"c", "a", "b"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        put(fixture, names[i], 1);
    }
    struct transaction *transaction = transaction_new(fixture->state);
    (void)transaction_put(transaction, fixture->resource, "ns2/x", object_of("x", 1));
    transaction_submit(transaction, count_done, fixture);
    loop_run(fixture->loop);
    struct state_iterator it = state_iterate(fixture->state, fixture->resource, "ns", NULL);
    static const char *const keys[] = {"ns/a", "ns/b", "ns/c"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_non_null(state_next(&it));
        assert_string_equal(it.key, keys[i]);
    }
    assert_null(state_next(&it));
    it = state_iterate(fixture->state, fixture->resource, NULL, "ns/b");
    assert_non_null(state_next(&it));
    assert_string_equal(it.key, "ns/c");
}

static void test_history_is_bounded(void **arg) {
    struct fixture *fixture = *arg;
    struct transaction *transaction = transaction_new(fixture->state);
    for (int i = 0; i < HISTORY_CHANGES_MAX + 10; i++) {
        (void)transaction_put(transaction, fixture->resource, "ns/a", object_of("a", i));
    }
    transaction_submit(transaction, count_done, fixture);
    loop_run(fixture->loop);
    assert_true(state_history_find(fixture->state, fixture->resource, 9) < 0);
    int64_t index = state_history_find(fixture->state, fixture->resource, 10);
    assert_true(index >= 0);
    const struct change *change = state_history_at(fixture->state, fixture->resource, index);
    assert_int_equal(change->revision, 11);
    assert_int_equal(json_int_at(change->old_object, "data.v", -1), 9);
    assert_null(state_history_at(fixture->state, fixture->resource, index + HISTORY_CHANGES_MAX));
}

/* A write that the disk refuses is undone, with all that was computed on top of it; afterwards writing goes on. */
static void test_failed_write_is_undone(void **arg) {
    struct fixture *fixture = *arg;
    put(fixture, "a", 1);
    loop_run(fixture->loop);
    struct rlimit old_limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = old_limit.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    put(fixture, "a", 2);
    put(fixture, "a", 3);
    put(fixture, "b", 1);
    loop_run(fixture->loop);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    assert_int_equal(fixture->failed, 3);
    assert_int_equal(json_int_at(state_get(fixture->state, fixture->resource, "ns/a"), "data.v", 0), 1);
    assert_int_equal(json_int_at(state_latest(fixture->state, fixture->resource, "ns/a"), "data.v", 0), 1);
    assert_null(state_latest(fixture->state, fixture->resource, "ns/b"));
    assert_true(state_is_writable(fixture->state));
    put(fixture, "b", 5);
    loop_run(fixture->loop);
    assert_int_equal(fixture->failed, 3);
    close_state(fixture);
    open_state(fixture);
    assert_int_equal(json_int_at(state_get(fixture->state, fixture->resource, "ns/a"), "data.v", 0), 1);
    assert_int_equal(json_int_at(state_get(fixture->state, fixture->resource, "ns/b"), "data.v", 0), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_readers_see_only_what_is_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restart_keeps_objects_and_revision, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lists_are_sorted_and_bounded_by_namespace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_history_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_write_is_undone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
