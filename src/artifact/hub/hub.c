/* hf:// and huggingface://: the files of a model on the Hugging Face Hub, at one commit. */
#include "artifact/hub/api.h"
#include "artifact/hub/cache.h"
#include "artifact/hub/explain.h"
#include "artifact/hub/identity.h"
#include "artifact/hub/url.h"
#include "artifact/source.h"

#include <string.h>

#define CONFIG "adapter_config.json"

struct hub_source {
    const struct artifact_options *options;
    const struct artifact_wanted *wanted;
    struct source_filter filter;
    struct artifact_http *http;
    struct hub_place place;
    struct hub_identity identity;
    char *cache_root; /* the local hub cache; NULL = none */
    bool is_offline;
    char commit[HUB_COMMIT_LEN + 1];
};

static const char *environment(const char *name) {
    return getenv(name);
}

static void hub_close(void *arg) {
    struct hub_source *source = arg;
    hub_place_release(&source->place);
    hub_identity_release(&source->identity);
    free(source->cache_root);
    free(source);
}

/* An earlier fetch found a commit: that one it is, wherever the branch has gone. */
static int pin_version(struct hub_source *source, struct error *err) {
    const char *version = source->wanted->version;
    if (version == NULL || *version == '\0') {
        return 0;
    }
    if (!hub_is_commit(version)) {
        return error_set(err, ERROR_CONFLICT, "\"%s\" is at a commit, and version \"%.64s\" is none", source->place.repo, version);
    }
    free(source->place.revision);
    source->place.revision = xstrdup(version);
    return 0;
}

static int open_source(struct hub_source *source, struct error *err) {
    if (hub_place_parse(source->wanted->url, source->wanted->revision, &source->place, err) < 0 || pin_version(source, err) < 0) {
        return -1;
    }
    source->is_offline = source->options->is_offline || hub_is_offline(environment);
    source->cache_root = hub_cache_root(environment);
    return source->is_offline ? 0 : hub_identity_find(source->wanted->secrets, environment, &source->identity, err);
}

static int hub_open(const struct source_args *args, void **ret_source, struct error *err) {
    struct hub_source *source = xcalloc(1, sizeof(*source));
    source->options = args->options;
    source->wanted = args->wanted;
    source->filter = source_filter_of(args->options, args->wanted);
    source->http = args->http;
    if (open_source(source, err) < 0) {
        hub_close(source);
        return -1;
    }
    *ret_source = source;
    return 0;
}

/* ---- asking ---- */

/* Takes `url`. */
static void make_request(const struct hub_source *source, char *url, struct artifact_request *ret) {
    *ret = (struct artifact_request){.url = url, .is_operators = source->identity.is_endpoint_ours};
    artifact_request_header(ret, "User-Agent: davit/%s", DAVIT_VERSION);
    artifact_request_header(ret, "Accept-Encoding: identity"); /* sizes are those of the files */
    if (source->identity.token != NULL) {
        artifact_request_secret_header(ret, "Authorization: Bearer %s", source->identity.token);
    }
}

/* Whether an answer came from where the hub itself is, and not from the store that a signed URL leads to. */
static bool is_from_hub(const struct hub_source *source, const struct artifact_reply *reply) {
    const char *endpoint = source->identity.endpoint;
    size_t len = strlen(endpoint);
    return reply->url == NULL || (strncmp(reply->url, endpoint, len) == 0 && reply->url[len] == '/');
}

static void explain(const struct hub_source *source, const char *what, const struct artifact_reply *reply, struct error *err) {
    cleanup_free char *code = artifact_reply_field(reply, "x-error-code");
    cleanup_free char *message = artifact_reply_field(reply, "x-error-message");
    struct hub_refusal refusal = {
        .identity = &source->identity,
        .place = &source->place,
        .what = what,
        .commit = *source->commit != '\0' ? source->commit : NULL,
        .status = reply->status,
        .code = code,
        .message = message,
        .is_elsewhere = !is_from_hub(source, reply),
    };
    hub_explain(&refusal, err);
}

/* 0 with an answer 200. Takes `url`; `what` is the path that it is about. */
static int ask(struct hub_source *source, char *url, const char *what, struct artifact_reply *ret, struct error *err) {
    struct artifact_request request;
    make_request(source, url, &request);
    request.body_bytes_max = HUB_ANSWER_BYTES_MAX;
    int result = artifact_http_ask(source->http, &request, ret, err);
    artifact_request_release(&request);
    if (result == 0 && ret->status != 200) {
        explain(source, what, ret, err);
        artifact_reply_release(ret);
        return -1;
    }
    return result;
}

/* ---- the list ---- */

static int read_info(struct hub_source *source, struct hub_reading *reading, bool with_files, struct error *err) {
    struct artifact_reply reply = {0};
    const char *query = with_files ? "blobs=true" : "expand=sha&expand=gated";
    if (ask(source, hub_info_url(source->identity.endpoint, &source->place, query), source->place.folder, &reply, err) < 0) {
        return -1;
    }
    int result = hub_info_read(reading, buffer_text(&reply.body), reply.body.len, with_files, err);
    artifact_reply_release(&reply);
    memcpy(source->commit, reading->commit, sizeof(source->commit));
    return result;
}

static int read_tree(struct hub_source *source, struct hub_reading *reading, struct error *err) {
    char *url = hub_tree_url(source->identity.endpoint, &source->place, source->commit);
    for (int page = 0; page < HUB_PAGES_MAX && url != NULL; page++) {
        struct artifact_reply reply = {0};
        if (ask(source, url, source->place.folder, &reply, err) < 0) {
            return -1;
        }
        cleanup_free char *link = artifact_reply_field(&reply, "link");
        int result = hub_tree_read(reading, buffer_text(&reply.body), reply.body.len, err);
        artifact_reply_release(&reply);
        if (result < 0) {
            return -1;
        }
        url = link != NULL ? hub_next_page(link, source->identity.endpoint) : NULL;
    }
    bool is_too_long = url != NULL;
    free(url);
    return is_too_long ? error_set(err, ERROR_LIMIT, "the hub lists the files of \"%s\" in more than %d pages", source->place.repo,
                                   HUB_PAGES_MAX)
                       : 0;
}

/* One request for a repository's root; two and more for a folder, and for a repository that is too large to be told at once. */
static int read_files(struct hub_source *source, struct hub_reading *reading, struct error *err) {
    if (*source->place.folder == '\0') {
        int result = read_info(source, reading, true, err);
        if (result == 0 || err->code != ERROR_LIMIT || reading->listing->count > 0) {
            return result;
        }
    }
    return read_info(source, reading, false, err) < 0 ? -1 : read_tree(source, reading, err);
}

static const struct artifact_file *find_config(const struct artifact_listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        if (strcmp(listing->files[i].name, CONFIG) == 0) {
            return &listing->files[i];
        }
    }
    return NULL;
}

static int check_listing(const struct hub_source *source, const struct hub_reading *reading, struct error *err) {
    const char *folder = source->place.folder;
    if (source->filter.model_suffixes != NULL) {
        return reading->listing->count > 0
                   ? 0
                   : error_set(err, ERROR_NOT_FOUND, "model \"%s\"%s%s at commit %.12s holds no %s", source->place.repo,
                               *folder != '\0' ? ", folder " : "", folder, source->commit, source_needs(&source->filter));
    }
    if (find_config(reading->listing) != NULL) {
        return 0;
    }
    return error_set(err, ERROR_NOT_FOUND, "model \"%s\"%s%s at commit %.12s has no " CONFIG "%s%.256s%s", source->place.repo,
                     *folder != '\0' ? ", folder " : "", folder, source->commit,
                     reading->elsewhere != NULL ? "; there is one in its folder \"" : "",
                     reading->elsewhere != NULL ? reading->elsewhere : "", reading->elsewhere != NULL ? "\": name that too" : "");
}

static const struct artifact_file *find_smallest(const struct artifact_listing *listing) {
    const struct artifact_file *found = &listing->files[0];
    for (size_t i = 1; i < listing->count; i++) {
        found = listing->files[i].bytes < found->bytes ? &listing->files[i] : found;
    }
    return found;
}

/* Whoever may not read a gated model may still list it, so the caller's right is tried before a cache answers. */
static int try_right(struct hub_source *source, const struct artifact_listing *listing, struct error *err) {
    struct artifact_reply reply = {0};
    const struct artifact_file *config = find_config(listing);
    const char *path = config != NULL ? config->key : find_smallest(listing)->key;
    struct artifact_request request;
    make_request(source, hub_file_url(source->identity.endpoint, &source->place, source->commit, path), &request);
    artifact_request_header(&request, "Range: bytes=0-0"); /* of a model, it may be large */
    request.body_bytes_max = HUB_ANSWER_BYTES_MAX;
    int result = artifact_http_ask(source->http, &request, &reply, err);
    artifact_request_release(&request);
    if (result == 0 && reply.status != 200 && reply.status != 206 && reply.status != 416) { /* 416: it is empty */
        explain(source, path, &reply, err);
        result = -1;
    }
    artifact_reply_release(&reply);
    return result;
}

static int list_online(struct hub_source *source, struct hub_reading *reading, struct error *err) {
    if (read_files(source, reading, err) < 0 || check_listing(source, reading, err) < 0) {
        return -1;
    }
    if (hub_is_commit(source->place.revision) && strcasecmp(source->place.revision, source->commit) != 0) {
        return error_set(err, ERROR_CONFLICT, "commit %s of \"%s\" was asked for, and the hub answered about %s",
                         source->place.revision, source->place.repo, source->commit);
    }
    if (reading->is_gated && try_right(source, reading->listing, err) < 0) {
        return -1;
    }
    /* A hub that an adapter has chosen may list what another one keeps from the caller, and so have it out of the cache. */
    if (source->cache_root != NULL && source->identity.is_endpoint_ours) {
        hub_cache_use(source->cache_root, &source->place, source->commit, reading->listing);
    }
    return 0;
}

static int list_offline(struct hub_source *source, struct hub_reading *reading, struct error *err) {
    const char *root = source->cache_root;
    if (root == NULL) {
        return error_set(err, ERROR_NOT_FOUND, "there is no local hub cache: neither HF_HUB_CACHE nor HOME is set");
    }
    if (hub_is_commit(source->place.revision)) {
        memcpy(source->commit, source->place.revision, sizeof(source->commit));
    } else if (hub_cache_resolve(root, &source->place, source->commit, err) < 0) {
        return -1;
    }
    if (hub_cache_list(root, &source->place, source->commit, &source->filter, reading->listing, err) < 0) {
        return -1;
    }
    return check_listing(source, reading, err);
}

static int hub_list(void *arg, struct artifact_listing *listing, struct error *err) {
    struct hub_source *source = arg;
    struct hub_reading reading = {.place = &source->place, .filter = source->filter, .listing = listing};
    struct error problem = {0};
    int result = source->is_offline ? list_offline(source, &reading, &problem) : list_online(source, &reading, &problem);
    free(reading.elsewhere);
    if (result < 0) {
        return error_set(err, problem.code, "%s%s", problem.message, source->is_offline ? "; the hub is not asked (offline)" : "");
    }
    listing->version = xstrdup(source->commit);
    return 0;
}

static int hub_request(void *arg, const struct artifact_file *file, struct artifact_request *ret, struct error *err) {
    const struct hub_source *source = arg;
    if (source->is_offline) {
        return error_set(err, ERROR_NOT_FOUND, "\"%s\" of model \"%s\" is not on this machine, and the hub is not asked (offline)",
                         file->key, source->place.repo);
    }
    make_request(source, hub_file_url(source->identity.endpoint, &source->place, source->commit, file->key), ret);
    return 0;
}

static void hub_explain_file(void *arg, const struct artifact_file *file, const struct artifact_reply *reply, struct error *err) {
    explain(arg, file->key, reply, err);
}

static bool is_offline_by_environment(void) {
    return hub_is_offline(environment);
}

const struct source_type source_hub = {
    .is_offline = is_offline_by_environment,
    .open = hub_open,
    .list = hub_list,
    .request = hub_request,
    .explain = hub_explain_file,
    .close = hub_close,
};
