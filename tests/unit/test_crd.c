/* deploy/crd/modeladapters.yaml says to a cluster what the rows of the embedded API say: the same schema and rules, the same
 * columns. */
#include "base/file.h"
#include "cluster/api/columns.h"
#include "cluster/api/documents.h"
#include "kube/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define CRD_BYTES_MAX (1 << 20)

static json_t *version;
static json_t *documents;

static int read_crd(void **state) {
    (void)state;
    const char *root = getenv("DAVIT_SOURCE_DIR");
    cleanup_free char *path = xasprintf("%s/deploy/crd/modeladapters.yaml", root != NULL ? root : ".");
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error err = {0};
    documents = file_read(path, CRD_BYTES_MAX, &text, &err) == 0 ? yaml_parse_all(text.data, text.len, &err) : NULL;
    if (documents == NULL) {
        print_error("%s: %s\n", path, err.message);
        return -1;
    }
    version = json_array_get(json_at(json_array_get(documents, 0), "spec.versions"), 0);
    return 0;
}

static int release_crd(void **state) {
    (void)state;
    json_decref(documents);
    return 0;
}

static int differences;

/* Says where two documents differ, one line a place. */
static void compare(const json_t *wanted, const json_t *found, const char *path) {
    if (json_is_object(wanted) && json_is_object(found)) {
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach((json_t *)wanted, key, value) {
            cleanup_free char *below = xasprintf("%s.%s", path, key);
            compare(value, json_object_get(found, key), below);
        }
        json_object_foreach((json_t *)found, key, value) {
            if (json_object_get(wanted, key) == NULL) {
                cleanup_free char *below = xasprintf("%s.%s", path, key);
                compare(NULL, value, below);
            }
        }
        return;
    }
    if (wanted != NULL && found != NULL && json_equal((json_t *)wanted, (json_t *)found)) {
        return;
    }
    cleanup_free char *a = wanted != NULL ? json_text(wanted) : xstrdup("nothing");
    cleanup_free char *b = found != NULL ? json_text(found) : xstrdup("nothing");
    print_error("%s: the rows say %s, the CRD %s\n", path, a, b);
    differences++;
}

static void test_schema(void **state) {
    (void)state;
    cleanup_json json_t *wanted = schema_model_adapter();
    differences = 0;
    compare(wanted, json_at(version, "schema.openAPIV3Schema"), "openAPIV3Schema");
    assert_int_equal(differences, 0);
}

static void test_columns(void **state) {
    (void)state;
    const json_t *columns = json_at(version, "additionalPrinterColumns");
    size_t count = 0;
    for (const struct column *column = columns_model_adapter + 1; column->name != NULL;
         column++, count++) { /* the first is the name */
        const json_t *found = json_array_get(columns, count);
        assert_string_equal(json_string_at(found, "name", ""), column->name);
        assert_string_equal(json_string_at(found, "type", ""), column->type);
        assert_int_equal(json_int_at(found, "priority", 0), column->priority);
    }
    assert_int_equal(json_array_size(columns), count);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_columns),
    };
    return cmocka_run_group_tests(tests, read_crd, release_crd);
}
