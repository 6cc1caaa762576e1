/* hf:// URLs, whose token goes where, what a hub's answers mean, and the cache of its own tools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "artifact/hub/api.h"
#include "artifact/hub/cache.h"
#include "artifact/hub/explain.h"
#include "artifact/hub/identity.h"
#include "artifact/hub/url.h"
#include "base/file.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define BLOB_SHA256 "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#define BLOB_SHA1 "da39a3ee5e6b4b0d3255bfef95601890afd80709"

/* ---- URLs ---- */

static void test_urls(void **state) {
    static const struct {
        const char *url;
        const char *revision;
        const char *repo, *ret_revision, *folder;
    } cases[] = {
        {"hf://org/repo", "", "org/repo", "main", ""},
        {"huggingface://org/repo", NULL, "org/repo", "main", ""},
        {"hf://org/repo/", "", "org/repo", "main", ""},
        {"hf://gpt2", "", "gpt2", "main", ""},
        {"hf://gpt2/", "", "gpt2", "main", ""},
        {"hf://gpt2@v1/a/b", "", "gpt2", "v1", "a/b"},
        {"hf://org/repo@v1.0", "", "org/repo", "v1.0", ""},
        {"hf://org/repo@v1.0", "v1.0", "org/repo", "v1.0", ""},
        {"hf://org/repo", "v1.0", "org/repo", "v1.0", ""},
        {"hf://org/repo@" COMMIT "/sub/folder/", "", "org/repo", COMMIT, "sub/folder"},
        {"hf://org/repo@ABCDEFABCDABCDEFABCDABCDEFABCDABCDEFABCD", "", "org/repo", "abcdefabcdabcdefabcdabcdefabcdabcdefabcd", ""},
        {"hf://org/repo@refs%2Fpr%2F1/x", "", "org/repo", "refs/pr/1", "x"},
        {"hf://org/repo@refs/pr/1/x", "", "org/repo", "refs/pr/1", "x"},
        {"hf://org/repo@refs/convert/parquet", "", "org/repo", "refs/convert/parquet", ""},
        {"hf://org/repo@dev/x", "", "org/repo", "dev", "x"},
        {"hf://org/repo/a%20b/c@d", "", "org/repo", "main", "a b/c@d"},
        {"hf://o_rg/re.po-1_", "", "o_rg/re.po-1_", "main", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hub_place place;
        struct error err = {0};
        if (hub_place_parse(cases[i].url, cases[i].revision, &place, &err) < 0) {
            fail_msg("%s: %s", cases[i].url, err.message);
        }
        assert_string_equal(place.repo, cases[i].repo);
        assert_string_equal(place.revision, cases[i].ret_revision);
        assert_string_equal(place.folder, cases[i].folder);
        hub_place_release(&place);
    }
}

static void test_the_same_place(void **state) {
    (void)state;
    static const char *const same[] = {"hf://org/repo/a/b", "huggingface://org/repo@main/a/b/", "hf://org/repo@v1/a/%62"};
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        struct hub_place place;
        struct error err = {0};
        assert_int_equal(hub_place_parse(same[i], "", &place, &err), 0);
        cleanup_free char *url = hub_place_url(&place);
        assert_string_equal(url, "hf://org/repo/a/b");
        hub_place_release(&place);
    }
}

static void test_bad_urls(void **state) {
    static const struct {
        const char *url;
        const char *revision;
        enum error_code code;
        const char *words; /* in the message */
    } cases[] = {
        {"hf://", "", ERROR_INVALID, "hf://org/repo"},
        {"hf:///repo", "", ERROR_INVALID, "hf://org/repo"},
        {"hf://org//repo", "", ERROR_INVALID, "folder"},
        {"https://huggingface.co/org/repo", "", ERROR_INVALID, "hf://org/repo"},
        {"hf://org/repo?x=secret", "", ERROR_INVALID, "nothing more"},
        {"hf://org/repo#x", "", ERROR_INVALID, "nothing more"},
        {"hf://datasets/org/repo", "", ERROR_UNSUPPORTED, "datasets"},
        {"hf://spaces/org/repo", "", ERROR_UNSUPPORTED, "spaces"},
        {"hf://models/org/repo", "", ERROR_INVALID, "hf://org/repo"},
        {"hf://org/re--po", "", ERROR_INVALID, "re--po"},
        {"hf://org/re..po", "", ERROR_INVALID, "re..po"},
        {"hf://org/-repo", "", ERROR_INVALID, "-repo"},
        {"hf://org/repo.", "", ERROR_INVALID, "repo."},
        {"hf://org/repo.git", "", ERROR_INVALID, "repo.git"},
        {"hf://org/re%70o", "", ERROR_INVALID, "re%70o"},
        {"hf://org/re po", "", ERROR_INVALID, "re po"},
        {"hf://../..", "", ERROR_INVALID, "hf://org/repo"},
        {"hf://org/repo@", "", ERROR_INVALID, "after '@'"},
        {"hf://org/repo@..", "", ERROR_INVALID, "after '@'"},
        {"hf://org/repo@a%2F..%2Fb", "", ERROR_INVALID, "after '@'"},
        {"hf://org/repo@%00", "", ERROR_INVALID, "after '@'"},
        {"hf://org/repo@%0a", "", ERROR_INVALID, "after '@'"},
        {"hf://org/repo@%4", "", ERROR_INVALID, "after '@'"},
        {"hf://org/repo", "../../x", ERROR_INVALID, "../../x"},
        {"hf://org/repo@v1", "v2", ERROR_INVALID, "\"v1\", and revision \"v2\""},
        {"hf://org/repo/../x", "", ERROR_INVALID, "/../x"},
        {"hf://org/repo/a/%2e%2e/x", "", ERROR_INVALID, "%2e%2e"},
        {"hf://org/repo/a//x", "", ERROR_INVALID, "a//x"},
        {"hf://org/repo/a\\b", "", ERROR_INVALID, "a\\b"},
        {"hf://org/repo/%", "", ERROR_INVALID, "/%"},
        {"hf://user:secret@org/repo", "", ERROR_INVALID, "\"hf://org/repo\": expected no credentials"},
        {"huggingface://:secret@org/repo@v1", "", ERROR_INVALID, "\"huggingface://org/repo@v1\": expected no credentials"},
        {"hf://hf_secret@org/repo", "", ERROR_INVALID, "HF_TOKEN"},
        {"hf://user:secret@datasets/org/repo?secret", "", ERROR_INVALID, "\"hf://datasets/org/repo\""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hub_place place;
        struct error err = {0};
        if (hub_place_parse(cases[i].url, cases[i].revision, &place, &err) == 0) {
            fail_msg("%s was taken for %s, revision %s, folder %s", cases[i].url, place.repo, place.revision, place.folder);
        }
        if (err.code != cases[i].code || strstr(err.message, cases[i].words) == NULL || strstr(err.message, "secret") != NULL) {
            fail_msg("%s: code %d, %s", cases[i].url, err.code, err.message);
        }
    }
    cleanup_free char *name = xmalloc(200);
    memset(name, 'a', 199);
    name[96] = '\0';
    assert_true(hub_is_repo(name));
    name[96] = 'a';
    name[97] = '\0';
    assert_false(hub_is_repo(name));
    assert_false(hub_is_repo("a/b/c"));
    assert_false(hub_is_repo(""));
}

static void test_urls_to_ask_for(void **state) {
    (void)state;
    struct hub_place place;
    struct error err;
    assert_int_equal(hub_place_parse("hf://org/repo@refs/pr/1/a%20b/%C3%A9", "", &place, &err), 0);
    cleanup_free char *info = hub_info_url("http://h:1", &place, "blobs=true");
    cleanup_free char *bare = hub_info_url("http://h:1", &place, "");
    cleanup_free char *tree = hub_tree_url("http://h:1", &place, COMMIT);
    cleanup_free char *file = hub_file_url("http://h:1/p", &place, COMMIT, "a b/c#?.json");
    assert_string_equal(info, "http://h:1/api/models/org/repo/revision/refs%2Fpr%2F1?blobs=true");
    assert_string_equal(bare, "http://h:1/api/models/org/repo/revision/refs%2Fpr%2F1");
    assert_string_equal(tree, "http://h:1/api/models/org/repo/tree/" COMMIT "/a%20b/%C3%A9");
    assert_string_equal(file, "http://h:1/p/org/repo/resolve/" COMMIT "/a%20b/c%23%3F.json");
    hub_place_release(&place);
}

static void test_next_pages(void **state) {
    static const struct {
        const char *link;
        const char *next;
    } cases[] = {
        {"<https://hub/api/models/o/r/tree/c?cursor=x%3D>; rel=\"next\"", "http://h/api/models/o/r/tree/c?cursor=x%3D"},
        {"<https://hub/api/models/1>; rel=\"prev\", <https://hub/api/models/2>; rel=\"next\"", "http://h/api/models/2"},
        {"<https://hub/api/models/1>; rel=\"first\"", NULL},
        {"<https://evil/elsewhere>; rel=\"next\"", NULL},
        {"<https://hub/api/models/1", NULL},
        {"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_free char *next = hub_next_page(cases[i].link, "http://h");
        if (cases[i].next == NULL) {
            assert_null(next);
        } else {
            assert_non_null(next);
            assert_string_equal(next, cases[i].next);
        }
    }
}

/* ---- identity ---- */

struct variable {
    const char *name;
    const char *value;
};
static struct variable variables[8];

static const char *environment(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(variables) && variables[i].name != NULL; i++) {
        if (strcmp(variables[i].name, name) == 0) {
            return variables[i].value;
        }
    }
    return NULL;
}

static void test_whose_token_goes_where(void **state) {
    static const struct {
        struct variable environment[4];
        struct artifact_secret secrets[3];
        const char *endpoint;
        const char *token;
    } cases[] = {
        {{{0}}, {{0}}, HUB_ENDPOINT_DEFAULT, NULL},
        {{{"HF_TOKEN", "ours"}, {"HUGGING_FACE_HUB_TOKEN", "old"}}, {{0}}, HUB_ENDPOINT_DEFAULT, "ours"},
        {{{"HF_TOKEN", ""}, {"HUGGING_FACE_HUB_TOKEN", " old\n"}}, {{0}}, HUB_ENDPOINT_DEFAULT, "old"},
        {{{"HF_TOKEN", "ours"}}, {{"huggingface_token", "theirs"}}, HUB_ENDPOINT_DEFAULT, "theirs"},
        {{{"HF_TOKEN", "ours"}}, {{"HF_TOKEN", "theirs\n"}}, HUB_ENDPOINT_DEFAULT, "theirs"},
        {{{"HF_TOKEN", "ours"}}, {{"hf_token", "b"}, {"huggingface_token", "a"}}, HUB_ENDPOINT_DEFAULT, "a"},
        {{{"HF_TOKEN", "ours"}, {"HF_ENDPOINT", "http://10.0.0.1:8080//"}}, {{0}}, "http://10.0.0.1:8080", "ours"},
        /* an endpoint of the adapter's does not get the process's token */
        {{{"HF_TOKEN", "ours"}, {"HF_ENDPOINT", "http://ours"}},
         {{"hf_endpoint", "https://theirs/hub/"}},
         "https://theirs/hub",
         NULL},
        {{{"HF_TOKEN", "ours"}}, {{"HF_ENDPOINT", "https://theirs"}, {"hf_token", "x"}}, "https://theirs", "x"},
        {{{"HF_TOKEN", "ours"}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}, {{0}}, HUB_ENDPOINT_DEFAULT, NULL},
        {{{"HF_TOKEN", "ours"}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}, {{"hf_token", "x"}}, HUB_ENDPOINT_DEFAULT, "x"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memset(variables, 0, sizeof(variables));
        memcpy(variables, cases[i].environment, sizeof(cases[i].environment));
        struct artifact_secrets secrets = {0};
        for (; secrets.count < 3 && cases[i].secrets[secrets.count].key != NULL; secrets.count++) {
            secrets.items[secrets.count] = cases[i].secrets[secrets.count];
        }
        struct hub_identity identity;
        struct error err = {0};
        if (hub_identity_find(&secrets, environment, &identity, &err) < 0) {
            fail_msg("case %zu: %s", i, err.message);
        }
        assert_string_equal(identity.endpoint, cases[i].endpoint);
        if (cases[i].token == NULL) {
            assert_null(identity.token);
        } else {
            assert_non_null(identity.token);
            assert_string_equal(identity.token, cases[i].token);
            assert_non_null(identity.origin);
        }
        hub_identity_release(&identity);
    }
}

static void test_bad_identities(void **state) {
    static const struct {
        const char *key;
        const char *value;
    } cases[] = {
        {"hf_token", "secret two"},         {"hf_token", "secret\r\nX-Evil: 1"},        {"huggingface_token", "secret\xc3\xa9"},
        {"hf_endpoint", "ftp://secret"},    {"hf_endpoint", "https://user:secret@hub"}, {"hf_endpoint", "https://hub?secret"},
        {"hf_endpoint", "https:///secret"}, {"hf_endpoint", "https://secret\r\nx"},
    };
    (void)state;
    memset(variables, 0, sizeof(variables));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct artifact_secrets secrets = {.items = {{cases[i].key, cases[i].value}}, .count = 1};
        struct hub_identity identity;
        struct error err = {0};
        assert_int_equal(hub_identity_find(&secrets, environment, &identity, &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
        if (strstr(err.message, "secret") != NULL || strstr(err.message, cases[i].key) == NULL) {
            fail_msg("case %zu: %s", i, err.message);
        }
    }
}

static void test_token_files(void **state) {
    const char *folder = *state;
    cleanup_free char *path = path_join(folder, "token");
    cleanup_free char *other = path_join(folder, "other");
    struct hub_identity identity;
    struct error err = {0};
    memset(variables, 0, sizeof(variables));
    variables[0] = (struct variable){"HF_HOME", folder};
    assert_int_equal(hub_identity_find(NULL, environment, &identity, &err), 0);
    assert_null(identity.token); /* nobody has logged in */
    hub_identity_release(&identity);
    assert_int_equal(file_replace(path, "filed\n", 6, 0600, &err), 0);
    assert_int_equal(hub_identity_find(NULL, environment, &identity, &err), 0);
    assert_string_equal(identity.token, "filed");
    hub_identity_release(&identity);
    variables[1] = (struct variable){"HF_TOKEN_PATH", other};
    assert_int_equal(hub_identity_find(NULL, environment, &identity, &err), 0);
    assert_null(identity.token);
    hub_identity_release(&identity);
    assert_int_equal(file_replace(other, "a\0b", 3, 0600, &err), 0);
    assert_int_equal(hub_identity_find(NULL, environment, &identity, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, other));
}

static void test_folders(void **state) {
    static const struct {
        struct variable environment[3];
        const char *cache;
    } cases[] = {
        {{{"HOME", "/home/me"}}, "/home/me/.cache/huggingface/hub"},
        {{{"HOME", "/home/me"}, {"XDG_CACHE_HOME", "/c"}}, "/c/huggingface/hub"},
        {{{"HOME", "/home/me"}, {"HF_HOME", "~/hf"}}, "/home/me/hf/hub"},
        {{{"HF_HOME", "/hf"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}, "/old"},
        {{{"HUGGINGFACE_HUB_CACHE", "/old"}, {"HF_HUB_CACHE", "/new"}}, "/new"},
        {{{0}}, NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memset(variables, 0, sizeof(variables));
        memcpy(variables, cases[i].environment, sizeof(cases[i].environment));
        cleanup_free char *cache = hub_cache_root(environment);
        assert_true(cases[i].cache == NULL ? cache == NULL : cache != NULL && strcmp(cache, cases[i].cache) == 0);
        assert_false(hub_is_offline(environment));
    }
    variables[0] = (struct variable){"HF_HUB_OFFLINE", "1"};
    assert_true(hub_is_offline(environment));
    variables[0] = (struct variable){"HF_HUB_OFFLINE", "0"};
    assert_false(hub_is_offline(environment));
    variables[0] = (struct variable){"TRANSFORMERS_OFFLINE", "true"};
    assert_true(hub_is_offline(environment));
}

/* ---- answers ---- */

static const struct hub_place root = {.repo = (char *)"org/repo", .revision = (char *)"main", .folder = (char *)""};
static const struct hub_place inner = {.repo = (char *)"org/repo", .revision = (char *)"main", .folder = (char *)"ckpt/1"};

static void test_info(void **state) {
    static const char text[] = "{\"id\":\"org/repo\",\"sha\":\"" COMMIT "\",\"gated\":\"auto\",\"siblings\":["
                               "{\"rfilename\":\".gitattributes\",\"size\":1519,\"blobId\":\"" BLOB_SHA1 "\"},"
                               "{\"rfilename\":\"adapter_config.json\",\"size\":600,\"blobId\":\"" BLOB_SHA1 "\"},"
                               "{\"rfilename\":\"adapter_model.bin\",\"size\":5},"
                               "{\"rfilename\":\"adapter_model.safetensors\",\"size\":1000000,\"blobId\":\"" BLOB_SHA1 "\","
                               "\"lfs\":{\"sha256\":\"" BLOB_SHA256 "\",\"size\":1000000,\"pointerSize\":132},\"xetHash\":\"ab\"},"
                               "{\"rfilename\":\"x/adapter_config.json\",\"size\":1},{\"rfilename\":7},5]}";
    (void)state;
    struct artifact_listing listing = {0};
    struct hub_reading reading = {.place = &root, .listing = &listing};
    struct error err = {0};
    assert_int_equal(hub_info_read(&reading, text, sizeof(text) - 1, true, &err), 0);
    assert_string_equal(reading.commit, COMMIT);
    assert_true(reading.is_gated);
    assert_string_equal(reading.elsewhere, "x");
    assert_int_equal(listing.count, 2);
    assert_string_equal(listing.files[0].name, "adapter_config.json");
    assert_int_equal(listing.files[0].bytes, 600);
    assert_string_equal(listing.files[0].git_sha1, BLOB_SHA1);
    assert_string_equal(listing.files[0].sha256, "");
    assert_string_equal(listing.files[1].key, "adapter_model.safetensors");
    assert_string_equal(listing.files[1].sha256, BLOB_SHA256);
    assert_string_equal(listing.files[1].git_sha1, ""); /* the pointer's is not the file's */
    artifact_listing_release(&listing);
    free(reading.elsewhere);
}

static void test_trees(void **state) {
    static const char first[] = "[{\"type\":\"directory\",\"path\":\"ckpt/1/adapter_config.json\"},"
                                "{\"type\":\"file\",\"path\":\"ckpt/1/adapter_config.json\",\"size\":7,\"oid\":\"" BLOB_SHA1 "\"}]";
    static const char second[] =
        "[{\"type\":\"file\",\"path\":\"adapter_model.safetensors\",\"size\":9},"
        "{\"type\":\"file\",\"path\":\"ckpt/10/adapter_model.safetensors\",\"size\":9},"
        "{\"type\":\"file\",\"path\":\"ckpt/1/adapter_model.safetensors\",\"size\":134,\"oid\":\"" BLOB_SHA1
        "\",\"lfs\":{\"oid\":\"" BLOB_SHA256 "\",\"size\":5000000000}}]";
    (void)state;
    struct artifact_listing listing = {0};
    struct hub_reading reading = {.place = &inner, .listing = &listing};
    struct error err = {0};
    assert_int_equal(hub_tree_read(&reading, first, sizeof(first) - 1, &err), 0);
    assert_int_equal(hub_tree_read(&reading, second, sizeof(second) - 1, &err), 0);
    assert_int_equal(listing.count, 2);
    assert_string_equal(listing.files[0].name, "adapter_config.json");
    assert_string_equal(listing.files[0].key, "ckpt/1/adapter_config.json");
    assert_string_equal(listing.files[1].key, "ckpt/1/adapter_model.safetensors");
    assert_int_equal(listing.files[1].bytes, 5000000000);
    assert_string_equal(listing.files[1].sha256, BLOB_SHA256);
    artifact_listing_release(&listing);
}

static void test_bad_answers(void **state) {
    static const struct {
        const char *text;
        bool is_tree;
    } cases[] = {
        {"<html>captive portal</html>", false},
        {"", false},
        {"{}", false},
        {"[]", false},
        {"{\"sha\":\"main\"}", false},
        {"{\"sha\":\"../../../../../../../../../../../../../etc\"}", false},
        {"{\"error\":\"x\"}", true},
        {"nothing", true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct artifact_listing listing = {0};
        struct hub_reading reading = {.place = &root, .listing = &listing};
        struct error err = {0};
        int result = cases[i].is_tree ? hub_tree_read(&reading, cases[i].text, strlen(cases[i].text), &err)
                                      : hub_info_read(&reading, cases[i].text, strlen(cases[i].text), true, &err);
        assert_int_equal(result, -1);
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.message, "org/repo"));
        assert_int_equal(listing.count, 0);
    }
}

static void test_bounded(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_append_text(&text, "[0");
    for (int i = 0; i < HUB_VALUES_MAX; i++) {
        buffer_append_text(&text, ",0");
    }
    buffer_append_text(&text, "]");
    struct artifact_listing listing = {0};
    struct hub_reading reading = {.place = &root, .listing = &listing};
    struct error err = {0};
    assert_int_equal(hub_tree_read(&reading, buffer_text(&text), text.len, &err), -1);
    assert_int_equal(err.code, ERROR_LIMIT);
}

static void test_refusals(void **state) {
    static const struct {
        int status;
        const char *code;
        const char *message;
        bool has_token;
        bool is_elsewhere;
        enum error_code expected;
        const char *words;
    } cases[] = {
        {401, "RepoNotFound", NULL, false, false, ERROR_UNAUTHORIZED, "huggingface_token"},
        {404, "RepoNotFound", NULL, true, false, ERROR_NOT_FOUND, "no model \"org/repo\""},
        {401, NULL, NULL, false, false, ERROR_UNAUTHORIZED, "huggingface_token"},
        {401, "GatedRepo", "Access is restricted", false, false, ERROR_UNAUTHORIZED,
         "accept its terms at https://hub/org/repo, and give"},
        {403, "GatedRepo", "Your request is pending", true, false, ERROR_DENIED, "https://hub/org/repo: Your request is pending"},
        {404, "RevisionNotFound", "Invalid rev id", true, false, ERROR_NOT_FOUND, "no branch, tag or commit \"main\""},
        {404, "EntryNotFound", NULL, true, false, ERROR_NOT_FOUND, "no \"adapter_config.json\" at main"},
        {401, NULL, "Invalid credentials in Authorization header", true, false, ERROR_UNAUTHORIZED,
         "does not know the token (HF_TOKEN)"},
        {403, NULL, "Access to this resource is disabled.", true, false, ERROR_DENIED, "is disabled"},
        {403, NULL, "token t0ken lacks a scope", true, false, ERROR_DENIED, "the token of HF_TOKEN"},
        {403, NULL, NULL, true, true, ERROR_UNAVAILABLE, "the signed URL has expired"},
        {404, NULL, NULL, true, true, ERROR_UNAVAILABLE, "answered 404"},
        {403, "GatedRepo", NULL, true, true, ERROR_DENIED, "is gated"}, /* a mirror's hub */
        {404, NULL, NULL, false, false, ERROR_UNAUTHORIZED, "org/repo"},
        {429, NULL, NULL, false, false, ERROR_UNAVAILABLE, "with a token"},
        {500, NULL, "oh\r\nno", true, false, ERROR_UNAVAILABLE, "500 about model \"org/repo\": oh??no"},
        {416, NULL, NULL, true, false, ERROR_INVALID, "416"},
        {307, NULL, NULL, true, false, ERROR_INVALID, "307"},
    };
    (void)state;
    struct hub_identity anonymous = {.endpoint = (char *)"https://hub"};
    struct hub_identity known = {.endpoint = (char *)"https://hub", .token = (char *)"t0ken", .origin = (char *)"HF_TOKEN"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hub_refusal refusal = {.identity = cases[i].has_token ? &known : &anonymous,
                                      .place = &root,
                                      .what = "adapter_config.json",
                                      .status = cases[i].status,
                                      .code = cases[i].code,
                                      .message = cases[i].message,
                                      .is_elsewhere = cases[i].is_elsewhere};
        struct error err = {0};
        hub_explain(&refusal, &err);
        if (err.code != cases[i].expected || strstr(err.message, cases[i].words) == NULL || strstr(err.message, "t0ken") != NULL) {
            fail_msg("case %zu: code %d, %s", i, err.code, err.message);
        }
    }
}

/* ---- the cache of the hub's own tools ---- */

static char *in(const char *folder, const char *path) {
    return path_join(folder, path);
}

static void write_file(const char *folder, const char *path, const char *text) {
    cleanup_free char *full = in(folder, path);
    cleanup_free char *parent = xstrndup(full, (size_t)(strrchr(full, '/') - full));
    struct error err;
    assert_int_equal(file_make_dirs(parent, 0700, &err), 0);
    assert_int_equal(file_replace(full, text, strlen(text), 0600, &err), 0);
}

static void link_file(const char *folder, const char *path, const char *target) {
    cleanup_free char *full = in(folder, path);
    assert_int_equal(symlink(target, full), 0);
}

#define REPO "hub/models--org--repo"
#define SNAPSHOT REPO "/snapshots/" COMMIT

static char *make_cache(const char *folder) {
    write_file(folder, REPO "/refs/main", COMMIT);
    write_file(folder, REPO "/refs/broken", "../../etc");
    write_file(folder, REPO "/blobs/" BLOB_SHA1, "{}");
    write_file(folder, REPO "/blobs/" BLOB_SHA256, "weights");
    write_file(folder, "outside", "not ours");
    write_file(folder, SNAPSHOT "/README.md", "x");
    write_file(folder, SNAPSHOT "/copied/adapter_config.json", "{ }");
    link_file(folder, SNAPSHOT "/adapter_config.json", "../../blobs/" BLOB_SHA1);
    link_file(folder, SNAPSHOT "/adapter_model.safetensors", "../../blobs/" BLOB_SHA256);
    link_file(folder, SNAPSHOT "/adapter_model.bin", "../../../../outside");
    return in(folder, "hub");
}

static void test_the_local_cache(void **state) {
    cleanup_free char *cache = make_cache(*state);
    char commit[HUB_COMMIT_LEN + 1];
    struct error err = {0};
    struct artifact_listing listing = {0};
    assert_int_equal(hub_cache_resolve(cache, &root, commit, &err), 0);
    assert_string_equal(commit, COMMIT);
    assert_int_equal(hub_cache_list(cache, &root, commit, &(struct source_filter){.is_pickle_allowed = true}, &listing, &err), 0);
    assert_int_equal(listing.count, 2); /* not the link that leads out */
    for (size_t i = 0; i < listing.count; i++) {
        bool is_config = strcmp(listing.files[i].name, "adapter_config.json") == 0;
        assert_string_equal(is_config ? listing.files[i].git_sha1 : listing.files[i].sha256, is_config ? BLOB_SHA1 : BLOB_SHA256);
        assert_int_equal(listing.files[i].bytes, is_config ? 2 : 7);
        assert_non_null(strstr(listing.files[i].local, "/blobs/"));
    }
    artifact_listing_release(&listing);
    struct hub_place copied = {.repo = root.repo, .revision = root.revision, .folder = (char *)"copied"};
    assert_int_equal(hub_cache_list(cache, &copied, commit, &(struct source_filter){0}, &listing, &err), 0);
    assert_int_equal(listing.count, 1);
    assert_string_equal(listing.files[0].key, "copied/adapter_config.json");
    assert_string_equal(listing.files[0].git_sha1, "");
    artifact_listing_release(&listing);
    struct hub_place broken = {.repo = root.repo, .revision = (char *)"broken", .folder = root.folder};
    assert_int_equal(hub_cache_resolve(cache, &broken, commit, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_int_equal(hub_cache_list(cache, &inner, COMMIT, &(struct source_filter){0}, &listing, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "ckpt/1"));
}

static void test_what_the_hub_listed_is_taken_from_the_cache_when_it_is_the_same(void **state) {
    static const struct {
        const char *name;
        const char *sha256;
        uint64_t bytes;
        bool is_local;
    } cases[] = {
        {"adapter_model.safetensors", BLOB_SHA256, 7, true},
        {"adapter_model.safetensors", BLOB_SHA256, 8, false},
        {"adapter_model.safetensors", "", 7, false},
        {"adapter_model.safetensors", "c179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 7, false},
        {"adapter_model.bin", BLOB_SHA256, 8, false},
        {"absent", BLOB_SHA256, 7, false},
    };
    cleanup_free char *cache = in(*state, "hub");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct artifact_listing listing = {0};
        struct error err;
        struct artifact_file *file = source_add_file(&listing, cases[i].name, &err);
        (void)snprintf(file->sha256, sizeof(file->sha256), "%s", cases[i].sha256);
        file->bytes = cases[i].bytes;
        hub_cache_use(cache, &root, COMMIT, &listing);
        if ((file->local != NULL) != cases[i].is_local) {
            fail_msg("case %zu: %s", i, file->local != NULL ? file->local : "not local");
        }
        artifact_listing_release(&listing);
    }
}

static int make_folder(void **state) {
    char name[] = "/tmp/davit-test-XXXXXX";
    *state = mkdtemp(name) != NULL ? xstrdup(name) : NULL;
    return *state != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
    cleanup_free char *folder = *state;
    cleanup_free char *command = xasprintf("rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_the_same_place),
        cmocka_unit_test(test_bad_urls),
        cmocka_unit_test(test_urls_to_ask_for),
        cmocka_unit_test(test_next_pages),
        cmocka_unit_test(test_whose_token_goes_where),
        cmocka_unit_test(test_bad_identities),
        cmocka_unit_test(test_token_files),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_trees),
        cmocka_unit_test(test_bad_answers),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_the_local_cache),
        cmocka_unit_test(test_what_the_hub_listed_is_taken_from_the_cache_when_it_is_the_same),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
