/* Which files make a base model, and what is not taken for weights. */
#include "artifact/model_files.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_needed(void **state) {
    (void)state;
    static const struct {
        const char *suffixes;
        bool is_pickle_allowed;
        const char *name;
        bool is_needed;
    } rows[] = {
        {"", false, "model-00001-of-00191.safetensors", true},
        {"", false, "Q4_K_M.GGUF", true},
        {"", false, "config.json", true},
        {"", false, "model.safetensors.index.json", true},
        {"", false, "tokenizer.model", true},
        {"", false, "merges.txt", true},
        {"", false, "chat_template.jinja", true},
        {"", false, "modeling_x.py", true},
        {"", false, "README.md", false},
        {"", false, ".gitattributes", false},
        {"", false, ".x.json", false},
        {"", false, "manifest.json", false}, /* the cache's own */
        {"", false, "pytorch_model.bin", false},
        {"", true, "pytorch_model.bin", false}, /* it has to be named, too */
        {"", false, "onnx/config.json", false},
        {".gguf", false, "a.gguf", true},
        {".gguf", false, "config.json", false},
        {"gguf, .json", false, "config.json", true},
        {",.json,", false, "README.md", false},
        {".bin", false, "pytorch_model.bin", false},
        {".bin", true, "pytorch_model.bin", true},
        {"Q4_K_M.gguf", false, "llama-Q4_K_M.gguf", true},
        {"/a.gguf", false, "a.gguf", true},
        {"/a.gguf", false, "ba.gguf", false},
        {".md", false, "README.md", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct source_filter filter = {rows[i].is_pickle_allowed, rows[i].suffixes};
        if (source_is_needed(rows[i].name, &filter) != rows[i].is_needed) {
            fail_msg("%s of \"%s\": expected %d", rows[i].name, rows[i].suffixes, rows[i].is_needed);
        }
    }
}

static void test_urls_of_files(void **state) {
    (void)state;
    static const struct {
        const char *url;
        const char *folder; /* NULL = no file is named */
        const char *suffixes;
    } rows[] = {
        {"hf://org/repo/x-Q4_0.gguf", "hf://org/repo/", "/x-Q4_0.gguf"},
        {"hf://org/repo@v1/sub/x.safetensors", "hf://org/repo@v1/sub/", "/x.safetensors"},
        {"hf://org/repo.gguf", NULL, NULL},
        {"s3://bucket/models/x.gguf", "s3://bucket/models/", "/x.gguf"},
        {"s3://bucket/x.gguf", "s3://bucket/", "/x.gguf"},
        {"s3://x.gguf", NULL, NULL},
        {"s3://bucket/models/x", NULL, NULL},
        {"https://host/m/x.gguf?sig=a/b.gguf", "https://host/m/?sig=a/b.gguf", "/x.gguf"},
        {"https://host/m?f=/x.gguf", NULL, NULL},
        {"/models/x.gguf", NULL, NULL},
        {"gs://b/a,b.gguf", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *folder = NULL;
        cleanup_free char *suffixes = NULL;
        if (model_url_split(rows[i].url, &folder, &suffixes) != (rows[i].folder != NULL)) {
            fail_msg("%s", rows[i].url);
        }
        if (rows[i].folder != NULL) {
            assert_string_equal(folder, rows[i].folder);
            assert_string_equal(suffixes, rows[i].suffixes);
        }
    }
}

static void test_listings(void **state) {
    (void)state;
    static const struct {
        const char *suffixes;
        const char *name; /* of the only file; NULL = none */
        const char *problem;
    } rows[] = {
        {"", "a.safetensors", NULL},
        {"", "a.gguf", NULL},
        {"", "config.json", "x has no weights: expected files that end in .safetensors or .gguf; pickle"},
        {"", NULL, "x has no weights"},
        {".json", "config.json", NULL},
        {".bin", NULL, "x has no file that ends in .bin; pickle (.bin, .pt) is not looked at without --allow-pickle"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct source_filter filter = {false, rows[i].suffixes};
        struct artifact_listing listing = {0};
        struct error err = {0};
        if (rows[i].name != NULL) {
            assert_non_null(source_add_file(&listing, rows[i].name, &err));
        }
        assert_int_equal(model_check_listing(&listing, &filter, "x", &err), rows[i].problem != NULL ? -1 : 0);
        if (rows[i].problem != NULL) {
            assert_int_equal(err.code, ERROR_NOT_FOUND);
            assert_non_null(strstr(err.message, rows[i].problem));
        }
        artifact_listing_release(&listing);
    }
}

static void test_a_listing_has_its_bound(void **state) {
    (void)state;
    struct artifact_listing listing = {0};
    struct error err = {0};
    for (int i = 0; i < ARTIFACT_FILES_MAX; i++) {
        cleanup_free char *name = xasprintf("%d.safetensors", i);
        assert_non_null(source_add_file(&listing, name, &err));
    }
    assert_null(source_add_file(&listing, "more", &err));
    assert_int_equal(err.code, ERROR_LIMIT);
    assert_string_equal(listing.files[700].name, "700.safetensors");
    artifact_listing_release(&listing);
}

static void test_what_came(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
        const char *problem;
    } rows[] = {
        {"a.gguf", "GGUF....", 8, NULL},
        {"a.gguf", "<html>", 6, "x: a.gguf: it does not begin with GGUF"},
        {"a.gguf", "GG", 2, "GGUF"},
        {"a.safetensors", "\2\0\0\0\0\0\0\0{}", 10, NULL},
        {"a.safetensors", "\2\0\0\0\0\0\0\0", 8, "it does not begin with a safetensors header"},
        {"a.safetensors", "\3\0\0\0\0\0\0\0{}", 10, "safetensors"}, /* longer than the file */
        {"a.safetensors", "version https://git-lfs.github.com/spec/v1\n", 43, "safetensors"},
        {"a.safetensors", "", 0, "safetensors"},
        {"config.json", "", 0, NULL},
    };
    char path[] = "/tmp/davit-model-XXXXXX";
    assert_non_null(mkdtemp(path));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = {0};
        struct manifest manifest = {0};
        cleanup_free char *file = path_join(path, rows[i].name);
        assert_int_equal(file_replace(file, rows[i].bytes, rows[i].len, 0644, &err), 0);
        manifest_add(&manifest, xstrdup(rows[i].name), rows[i].len, "");
        cleanup_close int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int result = model_check_folder(folder, &manifest, "x", &err);
        if (result != (rows[i].problem != NULL ? -1 : 0) ||
            (rows[i].problem != NULL && strstr(err.message, rows[i].problem) == NULL)) {
            fail_msg("row %zu: %d %s", i, result, err.message);
        }
        manifest_release(&manifest);
        (void)unlink(file);
    }
    assert_int_equal(rmdir(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needed),    cmocka_unit_test(test_urls_of_files),
        cmocka_unit_test(test_listings),  cmocka_unit_test(test_a_listing_has_its_bound),
        cmocka_unit_test(test_what_came),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
