/* Names of base models on the disk: links, records, and what is left alone. */
#include "runtime/model_store.h"

#include "base/file.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ONE "00000000000000000000000000000001"
#define TWO "00000000000000000000000000000002"

static char *folder;

static int make_folder(void **state) {
    (void)state;
    struct error err;
    folder = xstrdup("/tmp/davit-models-XXXXXX");
    assert_non_null(mkdtemp(folder));
    cleanup_free char *one = path_join(folder, ".cache/davit/v1/objects/" ONE);
    cleanup_free char *two = path_join(folder, ".cache/davit/v1/objects/" TWO);
    return file_make_dirs(one, 0755, &err) < 0 || file_make_dirs(two, 0755, &err) < 0 ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static int remove_folder(void **state) {
    (void)state;
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(folder);
    return 0;
}

static void link_to(const char *name, const char *object, enum error_code expected) {
    struct error err = {0};
    int result = model_store_link(folder, name, object, &err);
    if (result != (expected == ERROR_NONE ? 0 : -1) || err.code != expected) {
        fail_msg("%s: %d %s", name, result, err.message);
    }
}

static void test_links(void **state) {
    (void)state;
    char object[MODEL_OBJECT_BYTES];
    assert_false(model_store_leads_to(folder, "org/base", object));
    link_to("org/base", ONE, ERROR_NONE);
    assert_true(model_store_leads_to(folder, "org/base", object));
    assert_string_equal(object, ONE);
    link_to("org/base", TWO, ERROR_NONE);
    assert_true(model_store_leads_to(folder, "org/base", object));
    assert_string_equal(object, TWO);
    link_to("a/b/c/d", ONE, ERROR_NONE);
    assert_true(model_store_leads_to(folder, "a/b/c/d", object));
    /* to what is not there */
    link_to("gone", "00000000000000000000000000000003", ERROR_NONE);
    assert_false(model_store_leads_to(folder, "gone", object));
}

static void test_what_is_left_alone(void **state) {
    (void)state;
    char object[MODEL_OBJECT_BYTES];
    cleanup_free char *file = path_join(folder, "file");
    cleanup_free char *below = path_join(folder, ".cache/davit/v1/objects/" ONE "/below");
    struct error err;
    struct stat status;
    assert_int_equal(file_replace(file, "x", 1, 0644, &err), 0);
    link_to("file", ONE, ERROR_EXISTS);
    assert_int_equal(stat(file, &status), 0);
    assert_int_equal(status.st_size, 1);
    link_to("org/base", ONE, ERROR_NONE);
    link_to("org", ONE, ERROR_EXISTS);
    link_to("base", ONE, ERROR_NONE);
    assert_int_equal(model_store_link(folder, "base/below", TWO, &err), -1); /* a model's files are no folder of others */
    assert_int_equal(lstat(below, &status), -1);
    /* another's link is no model */
    cleanup_free char *foreign = path_join(folder, "foreign");
    assert_int_equal(symlink("/usr", foreign), 0);
    assert_false(model_store_leads_to(folder, "foreign", object));
}

struct linking {
    const char *object;
    struct error err;
};

static void *link_often(void *arg) {
    struct linking *linking = arg;
    for (int i = 0; i < 2000 && linking->err.code == ERROR_NONE; i++) {
        (void)!model_store_link(folder, "org/base", linking->object, &linking->err);
    }
    return NULL;
}

static void test_several_at_once(void **state) {
    (void)state;
    char object[MODEL_OBJECT_BYTES];
    struct linking linkings[] = {{.object = ONE}, {.object = TWO}};
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, link_often, &linkings[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(linkings[i].err.message, "");
    }
    assert_true(model_store_leads_to(folder, "org/base", object));
}

static struct model_record make_record(const char *name, const char *object) {
    return (struct model_record){.name = xstrdup(name),
                                 .url = xstrdup("hf://org/base"),
                                 .source = xstrdup("huggingface"),
                                 .identity = "i",
                                 .object = xstrdup(object)};
}

static void write_record(const char *name, const char *object) {
    struct error err = {0};
    struct model_record record = make_record(name, object);
    assert_int_equal(model_store_write(folder, &record, &err), 0);
    model_record_release(&record);
}

static void count(void *arg, const struct model_record *record) {
    assert_true(record->name[0] != '\0');
    (*(int *)arg)++;
}

static int records(void) {
    int found = 0;
    model_store_each(folder, count, &found);
    return found;
}

static void test_records(void **state) {
    (void)state;
    struct model_record record;
    assert_int_equal(records(), 0);
    assert_false(model_store_read(folder, "org/base", &record));
    write_record("org/base", "");
    assert_true(model_store_read(folder, "org/base", &record));
    assert_string_equal(record.source, "huggingface");
    assert_string_equal(record.identity, "i");
    link_to("org/base", ONE, ERROR_NONE);
    assert_false(model_store_is_there(folder, &record)); /* what it leads to is of another time */
    model_record_release(&record);
    write_record("org/base", ONE);
    write_record("other", TWO);
    assert_true(model_store_read(folder, "org/base", &record));
    assert_true(model_store_is_there(folder, &record));
    model_record_release(&record);
    assert_true(model_store_read(folder, "other", &record));
    assert_false(model_store_is_there(folder, &record));
    model_record_release(&record);
    assert_int_equal(records(), 2);
    model_store_forget(folder, "other");
    model_store_forget(folder, "other");
    assert_int_equal(records(), 1);
}

static void test_who_is_at_it(void **state) {
    (void)state;
    assert_false(model_store_is_begun(folder, "org/base"));
    write_record("org/base", "");
    assert_false(model_store_is_begun(folder, "org/base"));
    int one = model_store_begin(folder, "org/base");
    int two = model_store_begin(folder, "org/base");
    assert_true(one >= 0 && two >= 0);
    assert_true(model_store_is_begun(folder, "org/base"));
    assert_false(model_store_is_begun(folder, "other"));
    close(one);
    assert_true(model_store_is_begun(folder, "org/base"));
    close(two);
    assert_false(model_store_is_begun(folder, "org/base"));
    assert_int_equal(records(), 1);
}

/* Whoever can write into the folder can write a record. */
static void test_records_of_others(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "{", "[]", "{\"name\":\"../x\"}", "{\"name\":\"org/base\",\"object\":\"" ONE "\"}", "{\"name\":7,\"object\":7}"};
    cleanup_free char *path = path_join(folder, ".cache/davit/models");
    struct error err;
    assert_int_equal(file_make_dirs(path, 0700, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        cleanup_free char *file = xasprintf("%s/%zu.json", path, i);
        assert_int_equal(file_replace(file, texts[i], strlen(texts[i]), 0600, &err), 0);
    }
    assert_int_equal(records(), 0); /* the one that is well-formed lies in another's file */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_links, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_what_is_left_alone, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_several_at_once, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_records, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_who_is_at_it, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_records_of_others, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
