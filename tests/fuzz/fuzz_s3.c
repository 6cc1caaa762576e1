/* libFuzzer target: what S3 and STS answer, a profile's file, and a place, all of the same bytes. */
#include "artifact/s3/aws_profile.h"
#include "artifact/s3/xml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check_object(void *arg, const struct s3_object *object, struct error *err) {
    (void)arg;
    (void)err;
    if (strlen(object->key) > S3_KEY_BYTES_MAX || object->etag == NULL) {
        abort();
    }
    return 0;
}

static void check_printable(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text >= 0x7f) {
            abort(); /* somebody else's words are printable when they are shown */
        }
    }
}

static void check_role(const char *text, size_t len) {
    char *values[4] = {0};
    struct error err = {0};
    if (s3_xml_assumed_role(text, len, &values[0], &values[1], &values[2], &values[3], &err) < 0 && err.message[0] == '\0') {
        abort();
    }
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        free(values[i]);
    }
}

static void check_profile(const char *text, size_t len, bool is_config) {
    struct aws_profile profile = {.name = xstrdup("default")};
    struct error err = {0};
    if (aws_profile_read(&profile, text, len, is_config, &err) < 0 && err.message[0] == '\0') {
        abort(); /* a refusal says why */
    }
    (void)aws_profile_get(&profile, "region");
    aws_profile_release(&profile);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    struct s3_page page = {0};
    struct s3_refusal refusal;
    struct error err = {0};
    if (s3_xml_page(text, size, check_object, NULL, &page, &err) < 0 && err.message[0] == '\0') {
        abort();
    }
    s3_page_release(&page);
    s3_xml_refusal(text, size, &refusal);
    check_printable(refusal.code);
    check_printable(refusal.message);
    check_printable(refusal.region);
    check_role(text, size);
    check_profile(text, size, true);
    check_profile(text, size, false);
    return 0;
}
