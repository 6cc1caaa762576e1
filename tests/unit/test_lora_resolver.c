/* Unknown model names as adapters: which names, one lookup for all who wait, what is remembered, what is bounded; and lora_paths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engine/api/lora_path.h"
#include "engine/api/lora_resolver.h"

#include <string.h>
#include <sys/stat.h>

/* ---- a loader that a test answers for, and a clock ---- */

static struct adapter_job jobs[LOOKUPS_MAX + 1];
static char *paths[ARRAY_LEN(jobs)];
static size_t job_count;
static int64_t now_ms;
static enum error_code refusal;

static int load(void *arg, const struct adapter_job *job, struct error *err) {
    (void)arg;
    if (refusal != ERROR_NONE) {
        return error_set(err, refusal, "refused");
    }
    assert_true(job->is_lookup);
    assert_true(job_count < ARRAY_LEN(jobs));
    free(paths[job_count]);
    paths[job_count] = xstrdup(job->path);
    jobs[job_count++] = *job;
    return 0;
}

static int64_t clock_of_test(void) {
    return now_ms;
}

static struct lora_resolver *resolver_new(const char *base) {
    struct lora_resolver_options options = {.base = base, .load = load, .now_ms = clock_of_test};
    job_count = 0;
    now_ms = 1000;
    refusal = ERROR_NONE;
    return lora_resolver_new(&options);
}

/* Ends lookup `index`. */
static void end(size_t index, enum error_code code) {
    struct error err = {0};
    if (code != ERROR_NONE) {
        (void)error_set(&err, code, "as the test says");
    }
    jobs[index].on_done(jobs[index].arg, code != ERROR_NONE ? &err : NULL);
}

struct client {
    struct lora_waiter waiter;
    int answers;
    enum error_code code;
};

static void on_done(void *arg, const struct error *err) {
    struct client *client = arg;
    client->answers++;
    client->code = err != NULL ? err->code : ERROR_NONE;
}

static int ask(struct lora_resolver *resolver, struct client *client, const char *name, struct error *err) {
    *client = (struct client){.waiter = {.on_done = on_done, .arg = client}};
    return lora_resolver_ask(resolver, name, &client->waiter, err);
}

/* ---- names ---- */

static void test_names(void **state) {
    static const char *const good[] = {"sql", "org/repo", "a.b_c-d", "_x", "0", "a/b/c/d"};
    static const char *const bad[] = {"",     "/etc",  "..",      "../x",  "a/../b", ".hidden", "a/.git", "a//b",      "a/",
                                      "a\\b", "a b",   "a\nb",    "a%2eb", "-x",     "a?b",     "a@main", "a/b/c/d/e", "\xc3\xa9",
                                      "~",    "hf://", "a/-rf/b", "a:b",   "a#b",    "./a",     "a/..",   "/"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(lora_resolver_is_name(good[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (lora_resolver_is_name(bad[i])) {
            fail_msg("\"%s\" was taken for a name", bad[i]);
        }
    }
    char name[LOOKUP_NAME_BYTES_MAX + 2];
    memset(name, 'a', sizeof(name));
    name[LOOKUP_NAME_BYTES_MAX] = '\0';
    assert_true(lora_resolver_is_name(name));
    name[LOOKUP_NAME_BYTES_MAX] = 'a';
    name[LOOKUP_NAME_BYTES_MAX + 1] = '\0';
    assert_false(lora_resolver_is_name(name));
}

static void test_where_it_is_looked_for(void **state) {
    static const struct {
        const char *base;
        const char *path;
    } cases[] = {
        {"/adapters", "/adapters/sql"}, {"/adapters//", "/adapters/sql"},        {"/", "/sql"},
        {"hf://", "hf://sql"},          {"s3://bucket/x/", "s3://bucket/x/sql"}, {"hf://org", "hf://org/sql"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lora_resolver *resolver = resolver_new(cases[i].base);
        struct client client;
        struct error err;
        assert_int_equal(ask(resolver, &client, "sql", &err), 0);
        assert_string_equal(paths[0], cases[i].path);
        end(0, ERROR_NONE);
        lora_resolver_free(resolver);
    }
}

/* ---- lookups ---- */

static void test_one_lookup_for_all_who_wait(void **state) {
    struct lora_resolver *resolver = resolver_new("/adapters");
    struct client clients[50];
    struct client gone;
    struct error err;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        assert_int_equal(ask(resolver, &clients[i], "sql", &err), 0);
    }
    assert_int_equal(ask(resolver, &gone, "sql", &err), 0);
    lora_resolver_leave(&gone.waiter);
    lora_resolver_leave(&clients[7].waiter);
    lora_resolver_leave(&clients[7].waiter);
    assert_int_equal(job_count, 1);
    end(0, ERROR_NONE);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        assert_int_equal(clients[i].answers, i == 7 ? 0 : 1);
        assert_int_equal(clients[i].code, ERROR_NONE);
    }
    assert_int_equal(gone.answers, 0);
    /* What was found is not remembered: when it was unloaded, it is looked up again. */
    assert_int_equal(ask(resolver, &gone, "sql", &err), 0);
    assert_int_equal(job_count, 2);
    end(1, ERROR_EXISTS); /* somebody else has loaded it meanwhile */
    assert_int_equal(gone.answers, 1);
    assert_int_equal(gone.code, ERROR_NONE);
    lora_resolver_free(resolver);
}

static void test_what_was_not_found_is_remembered_for_a_while(void **state) {
    struct lora_resolver *resolver = resolver_new("/adapters");
    struct client client;
    struct error err;
    (void)state;
    assert_int_equal(ask(resolver, &client, "none", &err), 0);
    end(0, ERROR_NOT_FOUND);
    assert_int_equal(client.code, ERROR_NOT_FOUND);
    now_ms += LOOKUP_MISS_MS - 1;
    assert_int_equal(ask(resolver, &client, "none", &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_string_equal(err.message, "as the test says");
    assert_int_equal(job_count, 1);
    now_ms += 1;
    assert_int_equal(ask(resolver, &client, "none", &err), 0);
    end(1, ERROR_BUSY); /* says nothing about the adapter */
    assert_int_equal(ask(resolver, &client, "none", &err), 0);
    end(2, ERROR_NONE);
    /* No more than a number of them: the oldest is forgotten. */
    for (int i = 0; i <= LOOKUP_MISSES_MAX; i++) {
        cleanup_free char *name = xasprintf("n%d", i);
        job_count = 0;
        assert_int_equal(ask(resolver, &client, name, &err), 0);
        end(0, ERROR_INVALID);
    }
    assert_int_equal(ask(resolver, &client, "n1", &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    job_count = 0;
    assert_int_equal(ask(resolver, &client, "n0", &err), 0);
    end(0, ERROR_NONE);
    lora_resolver_free(resolver);
}

static void test_bounds(void **state) {
    struct lora_resolver *resolver = resolver_new("/adapters");
    struct client clients[LOOKUPS_MAX];
    struct client other;
    struct error err;
    (void)state;
    for (int i = 0; i < LOOKUPS_MAX; i++) {
        cleanup_free char *name = xasprintf("n%d", i);
        assert_int_equal(ask(resolver, &clients[i], name, &err), 0);
    }
    assert_int_equal(ask(resolver, &other, "more", &err), -1);
    assert_int_equal(err.code, ERROR_BUSY);
    struct client *many = xcalloc(LOOKUP_WAITERS_MAX, sizeof(*many));
    for (int i = LOOKUPS_MAX; i < LOOKUP_WAITERS_MAX; i++) {
        assert_int_equal(ask(resolver, &many[i], "n0", &err), 0);
    }
    assert_int_equal(ask(resolver, &other, "n0", &err), -1);
    assert_int_equal(err.code, ERROR_BUSY);
    lora_resolver_leave(&clients[3].waiter); /* makes room */
    assert_int_equal(ask(resolver, &other, "n0", &err), 0);
    for (size_t i = 0; i < LOOKUPS_MAX; i++) {
        end(i, ERROR_NONE);
    }
    assert_int_equal(other.answers, 1);
    refusal = ERROR_BUSY; /* of the loader */
    assert_int_equal(ask(resolver, &other, "late", &err), -1);
    assert_int_equal(err.code, ERROR_BUSY);
    refusal = ERROR_NONE;
    job_count = 0;
    assert_int_equal(ask(resolver, &other, "late", &err), 0);
    lora_resolver_leave(&other.waiter);
    jobs[0].on_dropped(jobs[0].arg); /* the engine stops */
    free(many);
    lora_resolver_free(resolver);
}

static struct lora_resolver *asked_again;

static void ask_again(void *arg, const struct error *err) {
    struct client *client = arg;
    struct error unused;
    (void)err;
    client->answers++;
    assert_int_equal(lora_resolver_ask(asked_again, "sql", &client->waiter, &unused), client->answers > 1 ? -1 : 0);
}

/* From within an answer, as a server does whose connections carry one request after another. */
static void test_asking_from_an_answer(void **state) {
    struct client client = {.waiter = {.on_done = ask_again, .arg = &client}};
    struct error err;
    (void)state;
    asked_again = resolver_new("/adapters");
    assert_int_equal(lora_resolver_ask(asked_again, "sql", &client.waiter, &err), 0);
    end(0, ERROR_NONE);
    assert_int_equal(job_count, 2);
    refusal = ERROR_BUSY;
    end(1, ERROR_NONE);
    assert_int_equal(client.answers, 2);
    lora_resolver_free(asked_again);
}

/* ---- lora_path ---- */

static void test_lora_paths(void **state) {
    static const struct {
        const char *path;
        const char *folder; /* NULL = */
        const char *url;
    } cases[] = {
        {"/a/b", "/a/b", NULL},
        {"file:///a/b", "/a/b", NULL},
        {"~", "/home/me", NULL},
        {"~/x", "/home/me/x", NULL},
        {"~other/x", "~other/x", NULL},
        {"hf://org/repo@v1/sub", NULL, "hf://org/repo@v1/sub"},
        {"s3://bucket/x", NULL, "s3://bucket/x"},
        {"https://h/x", NULL, "https://h/x"},
        {"org/repo", NULL, "hf://org/repo"},
        {"there/too", "there/too", NULL},
        {"name", "name", NULL},
        {"a/b/c", "a/b/c", NULL},
        {"../x", "../x", NULL},
        {"org/.hidden", "org/.hidden", NULL},
    };
    cleanup_free char *home = getenv("HOME") != NULL ? xstrdup(getenv("HOME")) : NULL;
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(mkdir("there", 0700), 0);
    assert_int_equal(mkdir("there/too", 0700), 0);
    assert_int_equal(setenv("HOME", "/home/me", 1), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lora_place place;
        struct error err;
        assert_int_equal(lora_place_find(cases[i].path, &place, &err), 0);
        const char *found = cases[i].folder != NULL ? place.folder : place.url;
        const char *expected = cases[i].folder != NULL ? cases[i].folder : cases[i].url;
        if (found == NULL || strcmp(found, expected) != 0 || (place.folder != NULL && place.url != NULL)) {
            fail_msg("%s: expected %s, found %s", cases[i].path, expected, found != NULL ? found : "the other kind");
        }
        lora_place_release(&place);
    }
    struct lora_place place;
    struct error err;
    assert_int_equal(lora_place_find("ftp://h/x", &place, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    if (home != NULL) {
        assert_int_equal(setenv("HOME", home, 1), 0);
    }
    assert_int_equal(chdir("/"), 0);
}

static int make_folder(void **state) {
    char name[] = "/tmp/davit-test-XXXXXX";
    *state = mkdtemp(name) != NULL ? xstrdup(name) : NULL;
    return *state != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
    cleanup_free char *folder = *state;
    cleanup_free char *command = xasprintf("rm -rf '%s'", folder);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        free(paths[i]);
    }
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_where_it_is_looked_for),
        cmocka_unit_test(test_one_lookup_for_all_who_wait),
        cmocka_unit_test(test_what_was_not_found_is_remembered_for_a_while),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_asking_from_an_answer),
        cmocka_unit_test(test_lora_paths),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
