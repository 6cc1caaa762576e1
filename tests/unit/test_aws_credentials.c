/* Keys: of Secrets, of files, of services that lend them; and how long they are kept. */
#include "artifact/s3/aws_key_cache.h"
#include "artifact/s3/xml.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* ---- files ---- */

static struct aws_profile read_files(const char *name, const char *credentials, const char *config) {
    struct aws_profile profile = {.name = xstrdup(name)};
    struct error err = {0};
    if (aws_profile_read(&profile, credentials, strlen(credentials), false, &err) < 0 ||
        aws_profile_read(&profile, config, strlen(config), true, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return profile;
}

static void expect_setting(const struct aws_profile *profile, const char *key, const char *value) {
    const char *found = aws_profile_get(profile, key);
    if (value == NULL ? found != NULL : found == NULL || strcmp(found, value) != 0) {
        fail_msg("%s: expected %s, found %s", key, value != NULL ? value : "nothing", found != NULL ? found : "nothing");
    }
}

static void test_profiles(void **state) {
    (void)state;
    static const char credentials[] = "; old\n[default]\nAWS_Access_Key_Id = A1\r\n\n[dev]\naws_access_key_id=A2 # mine\n"
                                      "aws_secret_access_key = a=b#c;d\naws_session_token =\n";
    static const char config[] =
        "[default]\nregion=r1\n[profile dev]\nregion = r2\naws_access_key_id = other\n"
        "s3 =\n    addressing_style = path\n    max = 1\noutput = json\n  more\n"
        "[profile\tother]\nregion = r3\n[sso-session dev]\nregion = r4\n[services dev]\ns3 =\n  endpoint_url = http://x\n";
    struct aws_profile profile = read_files("dev", credentials, config);
    assert_true(profile.is_there);
    expect_setting(&profile, "aws_access_key_id", "A2");
    expect_setting(&profile, "aws_secret_access_key", "a=b#c;d");
    expect_setting(&profile, "aws_session_token", NULL);
    expect_setting(&profile, "region", "r2");
    expect_setting(&profile, "s3.addressing_style", "path");
    expect_setting(&profile, "output", "json");
    assert_string_equal(aws_profile_get_of(&profile, "services dev", "s3.endpoint_url"), "http://x");
    aws_profile_release(&profile);
    profile = read_files("default", credentials, config);
    expect_setting(&profile, "aws_access_key_id", "A1");
    expect_setting(&profile, "region", "r1");
    aws_profile_release(&profile);
    profile = read_files("none", credentials, config);
    assert_false(profile.is_there);
    aws_profile_release(&profile);
}

static void test_files_that_are_none(void **state) {
    (void)state;
    static const char *const texts[] = {"[default\na = b\n", "[default]\ns3cret\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct aws_profile profile = {.name = xstrdup("default")};
        struct error err = {0};
        assert_int_equal(aws_profile_read(&profile, texts[i], strlen(texts[i]), true, &err), -1);
        assert_non_null(strstr(err.message, "line "));
        assert_null(strstr(err.message, "s3cret"));
        aws_profile_release(&profile);
    }
    cleanup_buffer struct buffer many = BUFFER_INIT;
    struct aws_profile profile = {.name = xstrdup("default")};
    struct error err = {0};
    buffer_append_text(&many, "[default]\n");
    for (int i = 0; i <= AWS_SETTINGS_MAX; i++) {
        buffer_append_text(&many, "a=b\n");
    }
    assert_int_equal(aws_profile_read(&profile, many.data, many.len, true, &err), -1);
    assert_int_equal(err.code, ERROR_LIMIT);
    aws_profile_release(&profile);
}

/* ---- Secrets ---- */

static void test_secrets(void **state) {
    (void)state;
    static const struct {
        const char *pairs[7];
        int result;
        const char *access_key; /* or the message */
    } rows[] = {
        {{NULL}, 0, NULL},
        {{"api-key", "x", "aws_region", "r"}, 0, NULL},
        {{"aws_access_key_id", "AK", "aws_secret_access_key", "s3cret"}, 1, "AK"},
        {{"AWS_ACCESS_KEY_ID", " AK\n", "AWS_SECRET_ACCESS_KEY", "s3cret\n", "AWS_SESSION_TOKEN", "t\r\n"}, 1, "AK"},
        {{"aws_access_key_id", "AK"}, -1, "has no aws_secret_access_key, which belongs to its aws_access_key_id"},
        {{"aws_secret_access_key", "s3cret"}, -1, "has no aws_access_key_id, which belongs to its aws_secret_access_key"},
        {{"aws_session_token", "s3cret"}, -1, "has no aws_access_key_id, which belongs to its aws_session_token"},
        {{"aws_access_key_id", "AK", "aws_secret_access_key", ""}, -1, "has no aws_secret_access_key"},
        {{"aws_access_key_id", "", "aws_secret_access_key", ""}, -1, "are empty"},
        {{"aws_access_key_id", "AK", "aws_secret_access_key", "s3cret\nX-Evil: 1"}, -1, "aws_secret_access_key: expected"},
        {{"aws_access_key_id", "A K", "aws_secret_access_key", "s3cret"}, -1, "aws_access_key_id: expected"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct artifact_secrets secrets = {0};
        struct aws_identity identity = {0};
        struct error err = {0};
        for (size_t k = 0; rows[i].pairs[k] != NULL; k += 2) {
            secrets.items[secrets.count++] = (struct artifact_secret){rows[i].pairs[k], rows[i].pairs[k + 1]};
        }
        int result = aws_identity_of_secrets(&secrets, &aws_key_names_s3, &identity, &err);
        if (result != rows[i].result || strstr(err.message, "s3cret") != NULL) {
            fail_msg("row %zu: %d %s", i, result, err.message);
        }
        if (result == 1) {
            assert_string_equal(identity.keys.access_key, rows[i].access_key);
            assert_string_equal(identity.keys.secret_key, "s3cret");
        } else if (result < 0 && (err.code != ERROR_UNAUTHORIZED || strstr(err.message, rows[i].access_key) == NULL)) {
            fail_msg("row %zu: %d %s", i, (int)err.code, err.message);
        }
        aws_identity_release(&identity);
    }
}

/* ---- answers ---- */

static void test_lent_keys(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "{}",
                                      "[]",
                                      "{\"AccessKeyId\":\"AK\"}",
                                      "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"s\\r\\nX: 1\"}",
                                      "{\"AccessKeyId\":1,\"SecretAccessKey\":\"s\"}"};
    static const char good[] =
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"2026-01-01T00:00:00Z\"}";
    struct aws_keys keys = {0};
    struct error err = {0};
    int64_t until_ms = 0;
    assert_int_equal(aws_keys_parse(good, strlen(good), &keys, &until_ms, &err), 0);
    assert_string_equal(keys.access_key, "AK");
    assert_string_equal(keys.session_token, "t");
    assert_true(until_ms == 1767225600000);
    aws_keys_release(&keys);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(aws_keys_parse(bad[i], strlen(bad[i]), &keys, &until_ms, &err), -1);
    }
}

static void test_assumed_roles(void **state) {
    (void)state;
#define ROLE(inner)                                                                                                                \
    "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>"     \
    "<Credentials><AccessKeyId>AK</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey>" inner "</Credentials>"                   \
    "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    static const char good[] = ROLE("<SessionToken>t</SessionToken><Expiration>2026-01-01T00:00:00Z</Expiration>");
    static const char bad[] = ROLE("<SessionToken>t</SessionToken>");
    char *access_key = NULL, *secret_key = NULL, *session_token = NULL, *expiration = NULL;
    struct error err = {0};
    assert_int_equal(s3_xml_assumed_role(good, strlen(good), &access_key, &secret_key, &session_token, &expiration, &err), 0);
    assert_string_equal(secret_key, "s3cret");
    assert_string_equal(expiration, "2026-01-01T00:00:00Z");
    free(access_key);
    free(secret_key);
    free(session_token);
    free(expiration);
    assert_int_equal(s3_xml_assumed_role(bad, strlen(bad), &access_key, &secret_key, &session_token, &expiration, &err), -1);
    assert_non_null(strstr(err.message, "Expiration"));
    assert_null(strstr(err.message, "s3cret"));
}

static void test_containers_urls(void **state) {
    (void)state;
    static const struct {
        const char *url;
        bool is_allowed;
    } rows[] = {
        {"https://anywhere.example/x", true},  {"http://127.0.0.1:80/x", true},
        {"http://localhost/x", true},          {"http://[::1]:1/x", true},
        {"http://169.254.170.2/x", true},      {"http://169.254.170.23/v1/credentials", true},
        {"http://[fd00:ec2::23]/v1", true},    {"http://192.0.2.1/x", false},
        {"http://localhost.example/x", false}, {"http://169.254.170.2@192.0.2.1/x", false},
        {"ftp://127.0.0.1/x", false},          {"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (aws_container_url_is_allowed(rows[i].url) != rows[i].is_allowed) {
            fail_msg("%s", rows[i].url);
        }
    }
}

/* ---- how long ---- */

static void test_kept_until_they_end(void **state) {
    (void)state;
    const struct aws_identity identity = {.kind = AWS_WEB_IDENTITY, .url = (char *)"u", .role_arn = (char *)"r"};
    const struct aws_identity other = {.kind = AWS_WEB_IDENTITY, .url = (char *)"u", .role_arn = (char *)"r2"};
    const struct aws_keys first = {.access_key = (char *)"A1", .secret_key = (char *)"s"};
    const struct aws_keys second = {.access_key = (char *)"A2", .secret_key = (char *)"s"};
    struct aws_keys found = {0};
    aws_key_cache_put(&identity, &first, 100);
    assert_false(aws_key_cache_get(&other, 0, &found));
    assert_false(aws_key_cache_get(&identity, 100, &found));
    assert_true(aws_key_cache_get(&identity, 99, &found));
    assert_string_equal(found.access_key, "A1");
    aws_keys_release(&found);
    aws_key_cache_put(&identity, &second, 200);
    aws_key_cache_drop(&identity, &first); /* replaced meanwhile: stays */
    assert_true(aws_key_cache_get(&identity, 150, &found));
    aws_keys_release(&found);
    assert_true(aws_identity_drop(&identity, &second));
    assert_false(aws_key_cache_get(&identity, 150, &found));
    assert_false(aws_identity_drop(&(struct aws_identity){.kind = AWS_KEYS}, &second));
}

static void *use_the_cache(void *arg) {
    const struct aws_keys keys = {.access_key = (char *)"A", .secret_key = (char *)"s"};
    for (int i = 0; i < 2000; i++) {
        cleanup_free char *role = xasprintf("%d", i % (2 * AWS_KEYS_MAX));
        const struct aws_identity identity = {.kind = AWS_CONTAINER, .role_arn = role};
        struct aws_keys found = {0};
        aws_key_cache_put(&identity, &keys, i);
        if (aws_key_cache_get(&identity, 0, &found)) {
            aws_keys_release(&found);
        }
        aws_key_cache_drop(&identity, &keys);
    }
    return arg;
}

static void test_threads_share_it(void **state) {
    (void)state;
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_the_cache, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_lent_keys),
        cmocka_unit_test(test_assumed_roles),
        cmocka_unit_test(test_containers_urls),
        cmocka_unit_test(test_kept_until_they_end),
        cmocka_unit_test(test_threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
