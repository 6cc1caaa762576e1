/* What the caches keep: it says the same as the object, in less. */
#include "controller/objects.h"
#include "controller/packed.h"
#include "kube/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_packed_text_comes_back(void **state) {
    (void)state;
    static const size_t lens[] = {0, 1, 100, 5000, 300000};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        cleanup_free char *text = xmalloc(lens[i] + 1);
        for (size_t k = 0; k < lens[i]; k++) {
            text[k] = (char)((k * 2654435761u) >> 7); /* any bytes, NUL too */
        }
        cleanup_buffer struct buffer packed = BUFFER_INIT;
        packed_append(&packed, text, lens[i]);
        size_t len = 1;
        cleanup_free char *back = packed_read(packed.data, packed.len, &len);
        assert_non_null(back);
        assert_int_equal(len, lens[i]);
        assert_memory_equal(back, text, len);
        assert_int_equal(back[len], '\0');
        assert_null(packed_read(packed.data, packed.len - 1, &len)); /* cut */
        packed.data[0]++;
        assert_null(packed_read(packed.data, packed.len, &len)); /* of another length */
    }
}

static const char service[] =
    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"sql\",\"namespace\":\"default\",\"uid\":\"u-1\","
    "\"resourceVersion\":\"12\",\"annotations\":{\"a\":\"b\"},\"labels\":{\"l\":\"m\"},\"ownerReferences\":[{\"uid\":\"o-1\","
    "\"controller\":true}]},\"spec\":{\"clusterIP\":\"None\",\"ports\":[{\"name\":\"http\",\"port\":8000}]}}";

static void test_service_becomes_a_record(void **state) {
    (void)state;
    struct error err;
    cleanup_json json_t *object = json_parse(service, strlen(service), &err);
    cleanup_json json_t *record = objects_reduce_packed(object);
    assert_string_equal(kube_name(record), "sql");
    assert_string_equal(kube_namespace(record), "default");
    assert_string_equal(kube_uid(record), "u-1");
    assert_string_equal(kube_resource_version(record), "12");
    assert_int_equal(objects_port(record), 8000);
    assert_true(objects_is_controlled_by(record, "o-1"));
    assert_false(objects_is_controlled_by(record, "o-2"));
    assert_true(json_string_length(record) < sizeof(service));   /* nothing of it is in a dictionary but words */
    json_object_del(json_at(object, "metadata"), "annotations"); /* nobody reads them */
    cleanup_json json_t *unpacked = objects_unpack(record);
    assert_true(json_equal(unpacked, object));
}

static void test_what_is_no_record_is_of_nobody(void **state) {
    (void)state;
    cleanup_json json_t *object = json_object();
    size_t len = 0;
    assert_null(kube_record_rest(object, &len));
    assert_null(objects_unpack(object));
    assert_null(objects_unpack(NULL));
    assert_false(objects_is_controlled_by(object, ""));
    assert_int_equal(objects_port(NULL), 0);
}

static void test_adapter_keeps_its_status(void **state) {
    (void)state;
    static const char text[] =
        "{\"metadata\":{\"name\":\"sql\",\"generation\":3},\"spec\":{\"baseModel\":\"b\"},\"status\":{\"phase\":\"Running\","
        "\"observedGeneration\":3,\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"Good\"},"
        "{\"type\":\"FullyLoaded\",\"status\":\"True\"}]}}";
    struct error err;
    cleanup_json json_t *object = json_parse(text, strlen(text), &err);
    cleanup_json json_t *reduced = objects_reduce_adapter(object);
    struct objects_seen seen;
    objects_read_seen(reduced, &seen);
    assert_string_equal(seen.phase, "Running");
    assert_string_equal(seen.ready_status, "True");
    assert_string_equal(seen.ready_reason, "Good");
    assert_true(seen.is_fully_loaded);
    assert_int_equal(seen.observed_generation, 3);
    objects_read_seen(object, &seen); /* nothing was noted */
    assert_string_equal(seen.ready_reason, "");
    cleanup_json json_t *status = objects_unpack(reduced);
    assert_true(json_equal(status, json_at(object, "status")));
    assert_null(json_at(reduced, "status"));
    assert_string_equal(json_string_at(reduced, "spec.baseModel", ""), "b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_text_comes_back), cmocka_unit_test(test_service_becomes_a_record),
        cmocka_unit_test(test_what_is_no_record_is_of_nobody), cmocka_unit_test(test_adapter_keeps_its_status)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
