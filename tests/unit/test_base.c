/* The vocabulary every part shares: errors, buffers, maps, JSON, clock, files, options. */
#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- errors ---- */

static void test_errors_gain_context_and_keep_their_code(void **state) {
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, ERROR_LIMIT, "rank %d exceeds the limit %d", 64, 16), -1);
    assert_int_equal(error_wrap(&err, "adapter \"%s\"", "sql"), -1);
    assert_int_equal(error_wrap(&err, "pod p"), -1);
    assert_string_equal(err.message, "pod p: adapter \"sql\": rank 64 exceeds the limit 16");
    assert_int_equal(err.code, ERROR_LIMIT);
    assert_int_equal(err.http_status, 413);
    assert_int_equal(error_set(NULL, ERROR_LIMIT, "nobody listens"), -1);
    assert_int_equal(error_wrap(NULL, "nobody listens"), -1);
    errno = ENOENT;
    assert_int_equal(error_set_errno(&err, "/a"), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_string_equal(err.message, "/a: No such file or directory");
    errno = EACCES;
    assert_int_equal(error_set_errno(&err, "/a"), -1);
    assert_int_equal(err.code, ERROR_DENIED);
}

static void test_long_messages_are_cut(void **state) {
    (void)state;
    struct error err;
    char text[3000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    error_set(&err, ERROR_IO, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 1);
    error_wrap(&err, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 1);
    errno = EIO;
    error_set_errno(&err, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 1);
}

static void test_codes_and_statuses(void **state) {
    (void)state;
    static const int statuses[] = {400, 401, 403, 404, 409, 429, 501, 503, 504};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        assert_int_equal(error_code_http_status(error_code_from_http_status(statuses[i])), statuses[i]);
    }
    assert_int_equal(error_code_from_http_status(418), ERROR_INVALID);
    assert_int_equal(error_code_from_http_status(599), ERROR_INTERNAL);
}

/* ---- buffers ---- */

static void test_buffers(void **state) {
    (void)state;
    struct buffer buf = BUFFER_INIT;
    assert_string_equal(buffer_text(&buf), "");
    buffer_append(&buf, "ab\0c", 4);
    buffer_printf(&buf, "%d", 12345);
    buffer_append_char(&buf, '!');
    assert_memory_equal(buf.data, "ab\0c12345!", 11);
    buffer_consume(&buf, 4);
    assert_string_equal(buffer_text(&buf), "12345!");
    buffer_consume(&buf, 100);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buffer_text(&buf), "");
    for (int i = 0; i < 10000; i++) {
        buffer_append_text(&buf, "xy");
    }
    assert_int_equal(buf.len, 20000);
    cleanup_free char *taken = buffer_take(&buf);
    assert_int_equal(strlen(taken), 20000);
    cleanup_free char *empty = buffer_take(&buf);
    assert_string_equal(empty, "");
}

static void test_try_alloc(void **state) {
    (void)state;
    volatile size_t huge = SIZE_MAX; /* volatile: the compiler would object */
    assert_null(try_alloc(huge / 2, 3));
    assert_null(try_alloc(1, huge));
    cleanup_free unsigned char *memory = try_alloc(3, 33);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 64, 0);
    for (size_t i = 0; i < 99; i++) {
        assert_int_equal(memory[i], 0);
    }
}

/* ---- maps: 100,000 random operations against a list ---- */

#define MODEL_KEYS 300

struct model {
    int keys[MODEL_KEYS]; /* in order of insertion */
    int *values[MODEL_KEYS];
    size_t count;
};

static size_t model_find(const struct model *model, int key) {
    size_t at = 0;
    while (at < model->count && model->keys[at] != key) {
        at++;
    }
    return at;
}

static void model_remove(struct model *model, size_t at) {
    model->count--;
    memmove(&model->keys[at], &model->keys[at + 1], (model->count - at) * sizeof(model->keys[0]));
    memmove(&model->values[at], &model->values[at + 1], (model->count - at) * sizeof(model->values[0]));
}

static void check_map(const struct map *map, const struct model *model) {
    size_t at = 0;
    size_t seen = 0;
    struct map_entry *entry = NULL;
    while ((entry = map_next(map, &at)) != NULL) {
        char name[16];
        assert_true(seen < model->count);
        (void)snprintf(name, sizeof(name), "key-%d", model->keys[seen]);
        assert_string_equal(entry->key, name);
        assert_ptr_equal(entry->value, model->values[seen]);
        seen++;
    }
    assert_int_equal(seen, model->count);
    assert_int_equal(map->count, model->count);
}

static void test_map_against_a_model(void **state) {
    (void)state;
    struct map map = MAP_INIT;
    struct model model = {0};
    int pool[64];
    unsigned random = 12345;
    for (int i = 0; i < 100000; i++) {
        random = random * 1103515245U + 12345U;
        int key = (int)((random >> 16) % MODEL_KEYS);
        int *value = &pool[(random >> 8) % ARRAY_LEN(pool)];
        size_t at = model_find(&model, key);
        void *expected = at < model.count ? model.values[at] : NULL;
        char name[16];
        (void)snprintf(name, sizeof(name), "key-%d", key);
        /* phases in which the map grows and phases in which it shrinks */
        bool removes = (random >> 4) % 8 < ((i / 5000) % 2 == 0 ? 2U : 6U);
        assert_ptr_equal(map_get(&map, name), expected);
        if (removes) {
            assert_ptr_equal(map_remove(&map, name), expected);
            if (expected != NULL) {
                model_remove(&model, at);
            }
        } else {
            assert_ptr_equal(map_set(&map, name, value), expected);
            model.keys[at] = key;
            model.values[at] = value;
            model.count += expected == NULL ? 1 : 0;
        }
        if (i % 1000 == 0) {
            check_map(&map, &model);
        }
    }
    check_map(&map, &model);
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&map, &at)) != NULL;) {
        cleanup_free char *key = xstrdup(entry->key);
        assert_non_null(map_remove(&map, key)); /* the one just returned */
    }
    assert_int_equal(map.count, 0);
    map_release(&map);
    assert_null(map_get(&map, "key-1"));
}

/* ---- JSON ---- */

/* RFC 7386, appendix A */
static void test_merge_patches(void **state) {
    (void)state;
    static const char *const rows[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err;
        cleanup_json json_t *patch = json_parse(rows[i][1], strlen(rows[i][1]), &err);
        cleanup_json json_t *expected = json_parse(rows[i][2], strlen(rows[i][2]), &err);
        cleanup_json json_t *result = json_merge_patch(json_parse(rows[i][0], strlen(rows[i][0]), &err), patch);
        if (!json_equal(result, expected)) {
            cleanup_free char *text = json_text(result);
            fail_msg("row %zu: %s", i, text);
        }
        cleanup_free char *patch_after = json_text(patch);
        assert_string_equal(patch_after, rows[i][1]); /* only borrowed */
    }
}

static void test_json_strings(void **state) {
    (void)state;
#define FFFD "\xef\xbf\xbd"
    static const struct {
        const char *text;
        size_t len;
        const char *json;
    } rows[] = {
        {"", 0, "\"\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\n\t\x01\0z", 5, "\"\\n\\u0009\\u0001\\u0000z\""},
        {"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 12, "\"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xff"
         "a",
         2, "\"" FFFD "a\""},
        {"\xc3", 1, "\"" FFFD "\""},                            /* cut */
        {"\xc3(", 2, "\"" FFFD "(\""},                          /* what follows is kept */
        {"\xc0\xaf", 2, "\"" FFFD FFFD "\""},                   /* overlong */
        {"\xe0\x80\xaf", 3, "\"" FFFD FFFD FFFD "\""},          /* overlong */
        {"\xed\xa0\x80", 3, "\"" FFFD FFFD FFFD "\""},          /* a surrogate */
        {"\xf4\x90\x80\x80", 4, "\"" FFFD FFFD FFFD FFFD "\""}, /* beyond U+10FFFF */
        {"\xf0\x9f\x98", 3, "\"" FFFD FFFD FFFD "\""},          /* cut */
        {"\x80", 1, "\"" FFFD "\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        cleanup_free char *exact = xmalloc(rows[i].len);
        memcpy(exact, rows[i].text, rows[i].len);
        json_append_string(&out, exact, rows[i].len);
        assert_string_equal(buffer_text(&out), rows[i].json);
        struct error err;
        cleanup_json json_t *parsed = json_parse(out.data, out.len, &err);
        assert_true(json_is_string(parsed));
    }
}

static void test_json_strings_of_anything(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"", ""}, {"caf\xc3\xa9", "caf\xc3\xa9"}, {"a\xff/b", "a\xef\xbf\xbd/b"}, {"\xc3", "\xef\xbf\xbd"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_json json_t *value = json_string_lossy(rows[i][0]);
        assert_string_equal(json_string_value(value), rows[i][1]);
    }
}

/* What may hold too many values is refused before memory is taken; brackets and commas of strings do not count. */
static void test_json_bounds(void **state) {
    static const struct {
        const char *text;
        size_t values_max;
        int code; /* 0 = read */
    } cases[] = {
        {"[1,2]", 3, 0},        {"[1,2]", 2, ERROR_LIMIT},  {"{\"a\":[],\"b\":{}}", 5, 0}, {"{\"a\":\"[[,,{{\\\",,\"}", 2, 0},
        {"\"\\\\\"", 1, 0},     {"[\"\\\\\",\"[\"]", 3, 0}, {"\"\\", 1, ERROR_INVALID},    {"[", 2, ERROR_INVALID},
        {"", 1, ERROR_INVALID}, {"5", 0, ERROR_LIMIT},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        cleanup_json json_t *value = json_parse_bounded(cases[i].text, strlen(cases[i].text), cases[i].values_max, &err);
        assert_int_equal(value == NULL, cases[i].code != 0);
        assert_int_equal(err.code, cases[i].code);
    }
    const size_t len = (size_t)8 << 20;
    cleanup_free char *text = xmalloc(len);
    struct rusage before;
    struct rusage after;
    struct error err = {0};
    for (size_t i = 0; i < len; i++) {
        text[i] = "{},"[i % 3];
    }
    text[0] = '[';
    text[1] = text[2] = ' ';
    text[len - 1] = ']';
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_null(json_parse_bounded(text, len, 100000, &err));
    assert_int_equal(err.code, ERROR_LIMIT);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_true(after.ru_maxrss - before.ru_maxrss < 32 * 1024); /* kilobytes; a tenth of what the values take */
}

/* A C string is the whole string or nothing. */
static void test_json_strings_with_nul(void **state) {
    static const char text[] = "{\"name\":\"sql\\u0000x\",\"text\":\"a\\u0000b\",\"plain\":\"sql\"}";
    struct error err = {0};
    (void)state;
    cleanup_json json_t *root = json_parse(text, sizeof(text) - 1, &err);
    assert_non_null(root);
    assert_string_equal(json_string_at(root, "name", "none"), "none");
    assert_null(json_c_string(json_object_get(root, "name")));
    assert_string_equal(json_c_string(json_object_get(root, "plain")), "sql");
    assert_null(json_c_string(root));
    assert_null(json_c_string(NULL));
    assert_int_equal(json_string_length(json_object_get(root, "text")), 3);
    cleanup_free char *again = json_text(root);
    assert_string_equal(again, text);
}

static void test_json_paths_and_errors(void **state) {
    (void)state;
    static const char text[] = "{\"a\":{\"b\":\"x\",\"n\":7,\"t\":true},\"s\":\"y\"}";
    struct error err;
    cleanup_json json_t *root = json_parse(text, strlen(text), &err);
    assert_non_null(root);
    assert_string_equal(json_string_at(root, "a.b", "-"), "x");
    assert_string_equal(json_string_at(root, "a.n", "-"), "-");
    assert_string_equal(json_string_at(root, "s.b", "-"), "-");
    assert_int_equal(json_int_at(root, "a.n", 1), 7);
    assert_int_equal(json_int_at(root, "a.c.d", 1), 1);
    assert_true(json_bool_at(root, "a.t", false));
    assert_null(json_at(NULL, "a"));
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "{} x", "\"\xff\"", "nul"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(json_parse(bad[i], strlen(bad[i]), &err));
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.message, "line"));
    }
    cleanup_buffer struct buffer deep = BUFFER_INIT;
    for (int i = 0; i < 100000; i++) {
        buffer_append_char(&deep, '[');
    }
    assert_null(json_parse(deep.data, deep.len, &err));
}

/* ---- clock and hash ---- */

static void test_times(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t wall_ms; /* -1: refused */
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-23T10:00:00Z", 1795428000000},
        {"2026-11-23T10:00:00.5Z", 1795428000500},
        {"2026-11-23T10:00:00.123456789Z", 1795428000123},
        {"2026-11-23T12:00:00+02:00", 1795428000000},
        {"2026-11-23T04:30:00-05:30", 1795428000000},
        {"2028-02-29T00:00:00Z", 1835395200000},
        {"2026-11-23", -1},
        {"2026-11-23T10:00:00", -1},
        {"2026-13-01T10:00:00Z", -1},
        {"2026-11-23T10:00:00Zx", -1},
        {"2026-11-23T10:00:00+0200", -1},
        {"", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t wall_ms = -1;
        int result = clock_parse_rfc3339(rows[i].text, &wall_ms);
        if ((result < 0) != (rows[i].wall_ms < 0) || wall_ms != rows[i].wall_ms) {
            fail_msg("\"%s\": %lld", rows[i].text, (long long)wall_ms);
        }
    }
    char text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(1795428000123, text);
    assert_string_equal(text, "2026-11-23T10:00:00Z");
    clock_format_rfc3339_ms(1795428000023, text);
    assert_string_equal(text, "2026-11-23T10:00:00.023Z");
    int64_t before = clock_now_ns();
    assert_true(clock_now_ns() >= before);
    assert_true(clock_wall_ms() > 1700000000000);
}

static void test_hash(void **state) {
    (void)state;
    char hex[HASH_HEX_BYTES];
    struct hash hash = hash_bytes("abc", 3); /* FIPS 180-4's example */
    hash_hex(&hash, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* ---- files ---- */

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/davit-test-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"file", "lock", "a/b/c", "a/b", "a", ""};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cleanup_free char *path = path_join(folder, names[i]);
        (void)remove(path);
    }
    return 0;
}

static void test_files(void **state) {
    (void)state;
    struct error err;
    struct stat info;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    cleanup_free char *path = path_join(folder, "file");
    assert_int_equal(file_read(path, 100, &text, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(file_replace(path, "hello", 5, 0640, &err), 0);
    assert_int_equal(file_replace(path, "bye", 3, 0600, &err), 0);
    assert_int_equal(file_read(path, 3, &text, &err), 0);
    assert_string_equal(buffer_text(&text), "bye");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(file_read(path, 2, &text, &err), -1);
    assert_int_equal(err.code, ERROR_LIMIT);
    assert_int_equal(file_read(folder, 100, &text, &err), -1);
    cleanup_free char *nowhere = path_join(folder, "missing/file");
    assert_int_equal(file_replace(nowhere, "x", 1, 0600, &err), -1);
    cleanup_free char *deep = path_join(folder, "a/b/c");
    assert_int_equal(file_make_dirs(deep, 0700, &err), 0);
    assert_int_equal(file_make_dirs(deep, 0700, &err), 0);
    assert_int_equal(stat(deep, &info), 0);
    cleanup_free char *joined = path_join("/a/", "b");
    assert_string_equal(joined, "/a/b");
}

static void test_a_replacement_that_fails_leaves_the_old_file_and_no_other(void **state) {
    (void)state;
    struct error err;
    cleanup_free char *path = path_join(folder, "a");
    assert_int_equal(file_make_dirs(path, 0700, &err), 0);
    assert_int_equal(file_replace(path, "x", 1, 0600, &err), -1); /* a folder cannot be replaced */
    cleanup_free char *pattern = xasprintf("ls '%s' | grep -q '^a\\.'", folder);
    assert_int_not_equal(system(pattern), 0); /* NOLINT(cert-env33-c) */
}

static void test_locks(void **state) {
    (void)state;
    struct error err;
    cleanup_free char *path = path_join(folder, "lock");
    int fd = file_lock(path, &err);
    assert_true(fd >= 0);
    assert_int_equal(file_lock(path, &err), -1);
    assert_int_equal(err.code, ERROR_BUSY);
    close(fd);
    fd = file_lock(path, &err);
    assert_true(fd >= 0);
    close(fd);
}

/* ---- options ---- */

struct settings {
    bool flag;
    const char *text;
    int64_t number;
    double ratio;
    struct option_strings list;
};

static struct settings settings;

static const struct option_spec table[] = {
    {.name = "flag", .env = "DAVIT_TEST_FLAG", .type = OPTION_FLAG, .target = &settings.flag, .help = "A flag"},
    {.name = "text",
     .env = "DAVIT_TEST_TEXT",
     .type = OPTION_STRING,
     .target = &settings.text,
     .value_name = "T",
     .help = "A text"},
    {.name = "number",
     .env = "DAVIT_TEST_NUMBER",
     .type = OPTION_INT,
     .target = &settings.number,
     .value_name = "N",
     .minimum = 1,
     .maximum = 9,
     .help = "A number"},
    {.name = "ratio", .type = OPTION_FLOAT, .target = &settings.ratio, .value_name = "R", .help = "A ratio"},
    {.name = "list", .type = OPTION_STRINGS, .target = &settings.list, .value_name = "L", .help = "Several"},
    {.name = "old", .type = OPTION_IGNORED, .takes_value = true},
    {0},
};

/* `line` is split at spaces; returns what options_parse does. */
static int parse_line(const char *line, struct error *err, char *argv[16], char *copy, size_t copy_len) {
    bool help = false;
    int argc = 0;
    settings = (struct settings){.text = "default", .number = 5};
    (void)snprintf(copy, copy_len, "%s", line);
    char *rest = copy;
    for (char *word = NULL; (word = strsep(&rest, " ")) != NULL;) {
        argv[argc++] = word;
    }
    return options_parse(table, argc, argv, &help, err);
}

static void test_options(void **state) {
    (void)state;
    char *argv[16];
    char copy[256];
    struct error err;
    assert_int_equal(parse_line("davit one --flag --text x --number=7 two --ratio 0.5 --list a --list=b -- --three", &err, argv,
                                copy, sizeof(copy)),
                     3);
    assert_true(settings.flag);
    assert_string_equal(settings.text, "x");
    assert_int_equal(settings.number, 7);
    assert_true(settings.ratio == 0.5);
    assert_int_equal(settings.list.count, 2);
    assert_string_equal(settings.list.values[1], "b");
    assert_string_equal(argv[1], "one");
    assert_string_equal(argv[2], "two");
    assert_string_equal(argv[3], "--three");
    assert_int_equal(parse_line("davit --no-flag --text=", &err, argv, copy, sizeof(copy)), 0);
    assert_false(settings.flag);
    assert_string_equal(settings.text, "");
}

static void test_bad_options_are_named(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *says;
    } rows[] = {
        {"davit --nothing", "--nothing"},
        {"davit --numbr 3", "did you mean --number"},
        {"davit --number", "missing"},
        {"davit --number x", "\"x\""},
        {"davit --number 10", "between 1 and 9"},
        {"davit --number 3x", "\"3x\""},
        {"davit --ratio=", "a number"},
        {"davit --flag=maybe", "\"maybe\""},
        {"davit --no-text x", "--no-text"},
        {"davit --number 99999999999999999999", "--number"},
    };
    char *argv[16];
    char copy[256];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = {0};
        assert_int_equal(parse_line(rows[i].line, &err, argv, copy, sizeof(copy)), -1);
        assert_int_equal(err.code, ERROR_INVALID);
        if (strstr(err.message, rows[i].says) == NULL) {
            fail_msg("%s: %s", rows[i].line, err.message);
        }
    }
}

static void test_options_of_the_environment(void **state) {
    (void)state;
    char *argv[16];
    char copy[256];
    struct error err;
    (void)setenv("DAVIT_TEST_TEXT", "env", 1);
    (void)setenv("DAVIT_TEST_NUMBER", "3", 1);
    (void)setenv("DAVIT_TEST_FLAG", "true", 1);
    assert_int_equal(parse_line("davit --number 4 --no-flag", &err, argv, copy, sizeof(copy)), 0);
    assert_string_equal(settings.text, "env");
    assert_int_equal(settings.number, 4);
    assert_false(settings.flag);
    (void)setenv("DAVIT_TEST_NUMBER", "many", 1);
    assert_int_equal(parse_line("davit", &err, argv, copy, sizeof(copy)), -1);
    assert_non_null(strstr(err.message, "DAVIT_TEST_NUMBER"));
    (void)unsetenv("DAVIT_TEST_TEXT");
    (void)unsetenv("DAVIT_TEST_NUMBER");
    (void)unsetenv("DAVIT_TEST_FLAG");
}

static void test_help(void **state) {
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    options_print_help(table, "davit test", "Tests.", out);
    (void)fclose(out);
    assert_true(strncmp(text, "Usage: davit test\n\nTests.\n", 26) == 0);
    assert_non_null(strstr(text, "--number N"));
    assert_non_null(strstr(text, "[DAVIT_TEST_TEXT]"));
    assert_null(strstr(text, "--old"));
    free(text);
    bool help = false;
    struct error err;
    char name[] = "davit";
    char option[] = "--help";
    char *argv[] = {name, option, NULL};
    assert_int_equal(options_parse(table, 2, argv, &help, &err), 0);
    assert_true(help);
}

/* ---- memory ---- */

static long resident_file_kb(void) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error err;
    assert_int_equal(file_read("/proc/self/status", 65536, &text, &err), 0);
    const char *line = strstr(buffer_text(&text), "RssFile:");
    assert_non_null(line);
    return strtol(line + strlen("RssFile:"), NULL, 10);
}

static void test_memory_given_back_is_there_when_needed(void **state) {
    (void)state;
    static const int changed_value = 3;
    static const int *volatile changed = NULL; /* beside what the linker wrote */
    changed = &changed_value;
    struct hash before = hash_bytes("abc", 3);
    long full_kb = resident_file_kb();
    memory_give_back();
    assert_true(resident_file_kb() < full_kb / 2);
    struct hash after = hash_bytes("abc", 3);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_ptr_equal(changed, &changed_value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_gain_context_and_keep_their_code),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_codes_and_statuses),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_try_alloc),
        cmocka_unit_test(test_map_against_a_model),
        cmocka_unit_test(test_merge_patches),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_json_strings_of_anything),
        cmocka_unit_test(test_json_bounds),
        cmocka_unit_test(test_json_strings_with_nul),
        cmocka_unit_test(test_json_paths_and_errors),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_a_replacement_that_fails_leaves_the_old_file_and_no_other),
        cmocka_unit_test(test_locks),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_bad_options_are_named),
        cmocka_unit_test(test_options_of_the_environment),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_memory_given_back_is_there_when_needed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
