/* Base models that other programs brought: which are whole. */
#include "runtime/model_foreign.h"

#include "base/file.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FILES_MAX 6

static char *folder;

static int make_folder(void **state) {
    (void)state;
    folder = xstrdup("/tmp/davit-foreign-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
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

static void put(const char *model, const char *name, const char *ending) {
    struct error err = {0};
    cleanup_free char *path = xasprintf("%s/%s/%s%s", folder, model, name, ending);
    assert_int_equal(file_replace(path, "x", 1, 0644, &err), 0);
}

/* As the Hub's downloader leaves them: each file with a note that it came. */
static void bring(const char *model, const char *const *files) {
    struct error err = {0};
    cleanup_free char *notes = xasprintf("%s/%s/.cache/huggingface/download", folder, model);
    assert_int_equal(file_make_dirs(notes, 0755, &err), 0);
    for (size_t i = 0; i < FILES_MAX && files[i] != NULL; i++) {
        cleanup_free char *note = xasprintf(".cache/huggingface/download/%s", files[i]);
        put(model, files[i], "");
        put(model, note, ".metadata");
    }
}

static void test_weights(void **state) {
    (void)state;
    static const struct {
        const char *files[FILES_MAX];
        enum model_foreign expected;
    } rows[] = {
        {{"config.json"}, MODEL_FOREIGN_HALF},
        {{"config.json", "model.safetensors"}, MODEL_FOREIGN_WHOLE},
        {{"m-00001-of-00002.safetensors"}, MODEL_FOREIGN_HALF},
        {{"m-00002-of-00002.safetensors"}, MODEL_FOREIGN_HALF},
        {{"m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"}, MODEL_FOREIGN_WHOLE},
        {{"state-of-the-art-1-of-2.gguf"}, MODEL_FOREIGN_HALF},
        {{"m-00001-of-00001.gguf"}, MODEL_FOREIGN_WHOLE},
        /* several sets, of one size and of two */
        {{"m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", "p-00001-of-00002.bin", "p-00002-of-00002.bin"},
         MODEL_FOREIGN_WHOLE},
        {{"q4-00001-of-00002.gguf", "q4-00002-of-00002.gguf", "q8-00001-of-00003.gguf", "q8-00002-of-00003.gguf",
          "q8-00003-of-00003.gguf"},
         MODEL_FOREIGN_WHOLE},
        /* as many files as one set has, of two sets that are not whole */
        {{"m-00001-of-00002.safetensors", "p-00001-of-00002.bin"}, MODEL_FOREIGN_HALF},
        {{"m-00000-of-00000.gguf", "m-0000001-of-0000002.gguf"}, MODEL_FOREIGN_WHOLE}, /* what are no numbers */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *source = "";
        cleanup_free char *model = xasprintf("m%zu", i);
        bring(model, rows[i].files);
        enum model_foreign found = model_foreign_look(folder, model, &source);
        if (found != rows[i].expected) {
            fail_msg("row %zu: expected %d, found %d", i, (int)rows[i].expected, (int)found);
        }
        assert_string_equal(source, "huggingface");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_weights, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
