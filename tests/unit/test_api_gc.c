/* Garbage collection of the API: what goes with its owners, and what stays. */
#include "io_support.h"

#include "cluster/api/deletion.h"
#include "cluster/api/dependents.h"
#include "cluster/api/gc.h"
#include "cluster/api/object.h"

#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char folder[64];
    char *path;
    struct loop *loop;
    struct state *state;
    struct gc *gc;
    const struct resource *resource;
};

static int set_up(void **state) {
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct error err = {0};
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/davit-test-gc.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->path = xasprintf("%s/store.db", fixture->folder);
    fixture->resource = resource_find("", "v1", "configmaps");
    fixture->loop = loop_new();
    if (state_open(fixture->loop, fixture->path, &fixture->state, &err) < 0) {
        fail_msg("%s", err.message);
    }
    fixture->gc = gc_new(fixture->loop, fixture->state);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    gc_free(fixture->gc);
    state_close(fixture->state);
    loop_free(fixture->loop);
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

/* Named `name`, with that uid, owned by the ConfigMaps whose uids are the letters of `owners`. */
static json_t *object_of(const char *name, const char *owners) {
    json_t *references = json_array();
    for (const char *owner = owners; *owner != '\0'; owner++) {
        json_array_append_new(references, json_pack("{s:s, s:s, s:s%, s:s%}", "apiVersion", "v1", "kind", "ConfigMap", "name",
                                                    owner, (size_t)1, "uid", owner, (size_t)1));
    }
    return json_pack("{s:{s:s, s:s, s:s, s:o}}", "metadata", "name", name, "namespace", "ns", "uid", name, "ownerReferences",
                     references);
}

static void put(struct fixture *fixture, json_t *object) {
    cleanup_free char *key = object_key("ns", object_name(object));
    struct transaction *transaction = transaction_new(fixture->state);
    (void)transaction_put(transaction, fixture->resource, key, object);
    transaction_submit(transaction, NULL, NULL);
    RUN_UNTIL(fixture->loop, state_in_flight(fixture->state) == 0);
}

static void end(struct fixture *fixture, const char *name, bool is_foreground) {
    cleanup_free char *key = object_key("ns", name);
    cleanup_json json_t *ignored = NULL;
    struct deletion deletion = DELETION_BACKGROUND;
    deletion.is_foreground = is_foreground;
    struct transaction *transaction = transaction_new(fixture->state);
    (void)deletion_run(transaction, fixture->state, fixture->resource, key, &deletion, &ignored);
    transaction_submit(transaction, NULL, NULL);
}

static const json_t *find(struct fixture *fixture, const char *name) {
    cleanup_free char *key = object_key("ns", name);
    return state_get(fixture->state, fixture->resource, key);
}

static void test_dependents_go_with_their_last_owner(void **arg) {
    struct fixture *fixture = *arg;
    put(fixture, object_of("a", ""));
    put(fixture, object_of("b", ""));
    put(fixture, object_of("c", "a"));  /* goes, and takes with it */
    put(fixture, object_of("d", "c"));  /* this one */
    put(fixture, object_of("e", "ab")); /* has another owner */
    put(fixture, object_of("f", ""));
    end(fixture, "a", false);
    RUN_UNTIL(fixture->loop,
              find(fixture, "d") == NULL && json_array_size(json_at(find(fixture, "e"), "metadata.ownerReferences")) == 1);
    assert_null(find(fixture, "c"));
    end(fixture, "b", false);
    RUN_UNTIL(fixture->loop, find(fixture, "e") == NULL);
    assert_int_equal(state_count(fixture->state, fixture->resource), 1);
    /* An owner that never was, or is gone already. */
    put(fixture, object_of("g", "a"));
    RUN_UNTIL(fixture->loop, find(fixture, "g") == NULL);
}

static void test_more_dependents_than_one_pass_takes(void **arg) {
    struct fixture *fixture = *arg;
    put(fixture, object_of("a", ""));
    struct transaction *transaction = transaction_new(fixture->state);
    for (int i = 0; i < 1234; i++) {
        cleanup_free char *name = xasprintf("item-%d", i);
        cleanup_free char *key = object_key("ns", name);
        (void)transaction_put(transaction, fixture->resource, key, object_of(name, "a"));
    }
    transaction_submit(transaction, NULL, NULL);
    end(fixture, "a", false);
    RUN_UNTIL(fixture->loop, state_in_flight(fixture->state) == 0 && state_count(fixture->state, fixture->resource) == 0);
}

static void test_an_owner_that_waits_goes_last(void **arg) {
    struct fixture *fixture = *arg;
    put(fixture, object_of("a", ""));
    json_t *held = object_of("b", "a");
    object_add_finalizer(held, "example.org/held");
    put(fixture, held);
    end(fixture, "a", true);
    RUN_UNTIL(fixture->loop, object_is_deleting(find(fixture, "b")));
    assert_true(object_is_deleting(find(fixture, "a")));
    cleanup_json json_t *released = object_touch(find(fixture, "b"));
    object_remove_finalizer(released, "example.org/held");
    struct transaction *transaction = transaction_new(fixture->state);
    (void)transaction_put(transaction, fixture->resource, "ns/b", json_incref(released));
    (void)transaction_delete(transaction, fixture->resource, "ns/b");
    transaction_submit(transaction, NULL, NULL);
    RUN_UNTIL(fixture->loop, find(fixture, "a") == NULL);
}

static void test_index_of_dependents(void **arg) {
    (void)arg;
    const struct resource *pods = resource_find("", "v1", "pods");
    struct dependents dependents = {0};
    const struct dependent *items = NULL;
    cleanup_json json_t *both = object_of("x", "ab");
    cleanup_json json_t *one = object_of("x", "b");
    cleanup_json json_t *other = object_of("y", "b");
    dependents_note(&dependents, pods, "ns/x", NULL, both);
    dependents_note(&dependents, pods, "ns/y", NULL, other);
    assert_int_equal(dependents_of(&dependents, "a", &items), 1);
    assert_int_equal(dependents_of(&dependents, "b", &items), 2);
    dependents_note(&dependents, pods, "ns/x", both, one);
    assert_int_equal(dependents_of(&dependents, "a", &items), 0);
    dependents_note(&dependents, pods, "ns/y", other, NULL);
    assert_int_equal(dependents_of(&dependents, "b", &items), 1);
    assert_string_equal(items[0].key, "ns/x");
    dependents_release(&dependents);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dependents_go_with_their_last_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_dependents_than_one_pass_takes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_owner_that_waits_goes_last, set_up, tear_down),
        cmocka_unit_test(test_index_of_dependents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
