#include "artifact/hub/url.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "io/url.h"

#include <ctype.h>
#include <string.h>

static const char *const schemes[] = {"hf://", "huggingface://"};

/* ---- names ---- */

static bool is_part(const char *part, size_t len) {
    if (len == 0 || len > HUB_PART_BYTES_MAX || strchr(".-", part[0]) != NULL || strchr(".-", part[len - 1]) != NULL) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        bool is_doubled = i > 0 && part[i] == part[i - 1] && (part[i] == '-' || part[i] == '.');
        if (is_doubled || (!isalnum((unsigned char)part[i]) && strchr("._-", part[i]) == NULL)) {
            return false;
        }
    }
    return len < 4 || memcmp(part + len - 4, ".git", 4) != 0;
}

bool hub_is_repo(const char *repo) {
    size_t first = strcspn(repo, "/");
    if (!is_part(repo, first)) {
        return false;
    }
    return repo[first] == '\0' || is_part(repo + first + 1, strlen(repo + first + 1));
}

bool hub_is_commit(const char *revision) {
    return strlen(revision) == HUB_COMMIT_LEN && strspn(revision, "0123456789abcdefABCDEF") == HUB_COMMIT_LEN;
}

/* Whether a text may be a path below a folder: parts that are not empty, "." or "..", of characters that can be seen. */
static bool is_path(const char *path, size_t bytes_max) {
    if (strlen(path) > bytes_max || strchr(path, '\\') != NULL) {
        return false;
    }
    for (const char *at = path; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            return false;
        }
    }
    for (const char *part = path;; part++) {
        size_t len = strcspn(part, "/");
        if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.')) {
            return false;
        }
        part += len;
        if (*part == '\0') {
            return true;
        }
    }
}

/* ---- reading ---- */

static int hex_digit(char digit) {
    return isdigit((unsigned char)digit)    ? digit - '0'
           : isxdigit((unsigned char)digit) ? tolower((unsigned char)digit) - 'a' + 10
                                            : -1;
}

/* NULL when a '%' is not followed by two digits, or would be U+0000. */
static char *percent_decode(const char *text, size_t len) {
    cleanup_buffer struct buffer out = BUFFER_INIT;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            buffer_append_char(&out, text[i]);
            continue;
        }
        int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
        if (low < 0 || high * 16 + low == 0) {
            return NULL;
        }
        buffer_append_char(&out, (char)(high * 16 + low));
        i += 2;
    }
    return buffer_take(&out);
}

/* The length of the revision at `text`: up to the next slash, but "refs/pr/1" and "refs/convert/parquet" are one. */
static size_t revision_length(const char *text) {
    static const char *const special[] = {"refs/pr/", "refs/convert/"};
    for (size_t i = 0; i < ARRAY_LEN(special); i++) {
        size_t len = strlen(special[i]);
        if (strncmp(text, special[i], len) == 0) {
            return len + strcspn(text + len, "/");
        }
    }
    return strcspn(text, "/");
}

/* "" when there is none. */
static char *repo_of(const char *rest, size_t *ret_len) {
    size_t len = strcspn(rest, "/@");
    if (rest[len] == '/') {
        len += 1 + strcspn(rest + len + 1, "/@");
    }
    while (len > 0 && rest[len - 1] == '/') { /* hf://name/ */
        len--;
    }
    *ret_len = len;
    return xstrndup(rest, len);
}

static int check_kind(const char *url, const char *repo, struct error *err) {
    static const char *const others[] = {"datasets/", "spaces/", "buckets/"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (strncmp(repo, others[i], strlen(others[i])) == 0) {
            return error_set(err, ERROR_UNSUPPORTED,
                             "\"%.256s\": adapters are in models; expected hf://org/repo, found one of the Hub's %.*s", url,
                             (int)strlen(others[i]) - 1, others[i]);
        }
    }
    if (strncmp(repo, "models/", strlen("models/")) == 0 || !hub_is_repo(repo)) {
        return error_set(err, ERROR_INVALID,
                         "\"%.256s\": expected hf://org/repo[@revision][/folder], found \"%.200s\" where the repository's name is",
                         url, repo);
    }
    return 0;
}

static int read_revision(const char *url, const char *in_url, size_t len, const char *wanted, char **ret, struct error *err) {
    bool is_wanted = wanted != NULL && *wanted != '\0';
    cleanup_free char *written = in_url != NULL ? percent_decode(in_url, len) : NULL;
    if (in_url != NULL && (written == NULL || !is_path(written, HUB_REVISION_BYTES_MAX))) {
        return error_set(err, ERROR_INVALID, "\"%.256s\": expected a branch, a tag or a commit after '@', found \"%.*s\"", url,
                         (int)(len < 100 ? len : 100), in_url);
    }
    if (is_wanted && !is_path(wanted, HUB_REVISION_BYTES_MAX)) {
        return error_set(err, ERROR_INVALID, "revision: expected a branch, a tag or a commit of \"%.256s\", found \"%.100s\"", url,
                         wanted);
    }
    if (is_wanted && written != NULL && strcmp(wanted, written) != 0) {
        return error_set(err, ERROR_INVALID,
                         "\"%.256s\" names revision \"%.100s\", and revision \"%.100s\" is asked for beside it: expected one", url,
                         written, wanted);
    }
    *ret = is_wanted ? xstrdup(wanted) : written != NULL ? take_pointer(written) : xstrdup("main");
    for (char *at = *ret; hub_is_commit(*ret) && *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    return 0;
}

static int read_folder(const char *url, const char *text, char **ret, struct error *err) {
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '/') {
        len--;
    }
    cleanup_free char *folder = len > 0 ? percent_decode(text + 1, len - 1) : xstrdup("");
    if (folder == NULL || (len > 0 && !is_path(folder, HUB_FOLDER_BYTES_MAX))) {
        return error_set(err, ERROR_INVALID, "\"%.256s\": expected a folder of the repository, found \"%.256s\"", url, text);
    }
    *ret = take_pointer(folder);
    return 0;
}

/* What follows the scheme. */
static int read_rest(const char *url, const char *rest, const char *wanted, struct hub_place *place, struct error *err) {
    size_t at;
    place->repo = repo_of(rest, &at);
    if (check_kind(url, place->repo, err) < 0) {
        return -1;
    }
    bool has_revision = rest[at] == '@';
    const char *revision = has_revision ? rest + at + 1 : NULL;
    size_t revision_len = has_revision ? revision_length(revision) : 0;
    if (read_revision(url, revision, revision_len, wanted, &place->revision, err) < 0) {
        return -1;
    }
    return read_folder(url, has_revision ? revision + revision_len : rest + at, &place->folder, err);
}

int hub_place_parse(const char *url, const char *revision, struct hub_place *ret, struct error *err) {
    const char *rest = NULL;
    cleanup_free char *shown = url_for_people(url);
    for (size_t i = 0; i < ARRAY_LEN(schemes) && rest == NULL; i++) {
        rest = strncmp(url, schemes[i], strlen(schemes[i])) == 0 ? url + strlen(schemes[i]) : NULL;
    }
    if (rest == NULL || strpbrk(rest, "?#") != NULL) {
        return error_set(err, ERROR_INVALID, "\"%.256s\": expected hf://org/repo[@revision][/folder] and nothing more", shown);
    }
    if (strlen(shown) != strlen(url)) {
        return error_set(err, ERROR_INVALID,
                         "\"%.256s\": expected no credentials in the URL: a token is given as huggingface_token in the adapter's "
                         "Secret, or as HF_TOKEN",
                         shown);
    }
    struct hub_place place = {0};
    if (read_rest(url, rest, revision, &place, err) < 0) {
        hub_place_release(&place);
        return -1;
    }
    *ret = place;
    return 0;
}

char *hub_place_url(const struct hub_place *place) {
    return xasprintf("hf://%s%s%s", place->repo, place->folder[0] != '\0' ? "/" : "", place->folder);
}

void hub_place_release(struct hub_place *place) {
    free(place->repo);
    free(place->revision);
    free(place->folder);
    *place = (struct hub_place){0};
}

char *hub_endpoint_parse(const char *text, const char *origin, struct error *err) {
    size_t scheme = strncmp(text, "https://", 8) == 0 ? 8 : strncmp(text, "http://", 7) == 0 ? 7 : 0;
    bool is_good =
        scheme > 0 && text[scheme] != '\0' && text[scheme] != '/' && strpbrk(text, "?#@\\") == NULL && strlen(text) <= 1024;
    for (const char *at = text; is_good && *at != '\0'; at++) {
        is_good = (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f;
    }
    if (!is_good) { /* not repeated: a user and a password may be in it */
        (void)error_set(err, ERROR_INVALID,
                        "%s: expected the URL of a hub, such as https://huggingface.co, without user, query and fragment", origin);
        return NULL;
    }
    size_t len = strlen(text);
    while (text[len - 1] == '/') {
        len--;
    }
    return xstrndup(text, len);
}

/* ---- writing ---- */

/* RFC 3986: everything but unreserved characters is encoded, and '/' unless it separates. */
static void append_encoded(struct buffer *out, const char *text, bool is_path_text) {
    for (const char *at = text; *at != '\0'; at++) {
        if (isalnum((unsigned char)*at) || strchr("-._~", *at) != NULL || (is_path_text && *at == '/')) {
            buffer_append_char(out, *at);
        } else {
            buffer_printf(out, "%%%02X", (unsigned char)*at);
        }
    }
}

char *hub_info_url(const char *endpoint, const struct hub_place *place, const char *query) {
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_printf(&out, "%s/api/models/%s/revision/", endpoint, place->repo);
    append_encoded(&out, place->revision, false);
    buffer_printf(&out, "%s%s", *query != '\0' ? "?" : "", query);
    return buffer_take(&out);
}

char *hub_tree_url(const char *endpoint, const struct hub_place *place, const char *commit) {
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_printf(&out, "%s/api/models/%s/tree/%s", endpoint, place->repo, commit);
    if (*place->folder != '\0') {
        buffer_append_char(&out, '/');
        append_encoded(&out, place->folder, true);
    }
    return buffer_take(&out);
}

char *hub_file_url(const char *endpoint, const struct hub_place *place, const char *commit, const char *path) {
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_printf(&out, "%s/%s/resolve/%s/", endpoint, place->repo, commit);
    append_encoded(&out, path, true);
    return buffer_take(&out);
}

static bool is_next(const char *parameters, size_t len) {
    cleanup_free char *text = xstrndup(parameters, len);
    return strstr(text, "rel=\"next\"") != NULL || strstr(text, "rel=next") != NULL;
}

char *hub_next_page(const char *link, const char *endpoint) {
    for (const char *open = strchr(link, '<'); open != NULL; open = strchr(open + 1, '<')) {
        const char *close = strchr(open, '>');
        if (close == NULL) {
            return NULL;
        }
        if (is_next(close + 1, strcspn(close + 1, "<"))) {
            cleanup_free char *target = xstrndup(open + 1, (size_t)(close - open - 1));
            const char *path = strstr(target, "/api/models/");
            return path != NULL ? xasprintf("%s%s", endpoint, path) : NULL;
        }
        open = close;
    }
    return NULL;
}
