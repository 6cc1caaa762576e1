#include "base/clock.h"
#include "base/map.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"
#include "cluster/api/strategy.h"
#include "cluster/api/verbs.h"

#include <openssl/evp.h>
#include <string.h>

json_t *verb_get(struct call *call) {
    const struct target *target = &call->target;
    cleanup_free char *key = object_key(target->namespace, target->name);
    const json_t *object = state_get(call->api->state, target->resource, key);
    if (object == NULL) {
        return status_not_found(target->resource, target->name);
    }
    if (target->subresource != NULL && strcmp(target->subresource, "scale") == 0) {
        cleanup_json json_t *scale = strategy_scale_of(object);
        call_reply(call, 200, scale);
        return NULL;
    }
    call_reply(call, 200, object);
    return NULL;
}

/* ---- what a list or watch asks for ---- */

json_t *call_selectors(const struct call *call, struct selector **ret_labels, struct field_selector *ret_fields) {
    cleanup_free char *labels = call_query(call, "labelSelector");
    cleanup_free char *fields = call_query(call, "fieldSelector");
    struct error err = {0};
    *ret_labels = NULL;
    *ret_fields = (struct field_selector){0};
    if (labels != NULL && *labels != '\0' && selector_parse_string(labels, ret_labels, &err) < 0) {
        return status_error(400, "BadRequest", "unable to parse labelSelector \"%s\": %s", labels, err.message);
    }
    return field_selector_parse(call->target.resource, fields, ret_fields);
}

/* A query parameter that is a number >= 0; `absent` when it is missing or empty. */
static json_t *query_number(const struct call *call, const char *name, int64_t absent, int64_t *ret_number) {
    cleanup_free char *text = call_query(call, name);
    *ret_number = absent;
    if (text == NULL || *text == '\0') {
        return NULL;
    }
    if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 18) {
        return status_error(400, "BadRequest", "%s: Invalid value: \"%s\": must be a number", name, text);
    }
    *ret_number = strtoll(text, NULL, 10);
    return NULL;
}

static bool query_flag(const struct call *call, const char *name) {
    cleanup_free char *text = call_query(call, name);
    return text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
}

/* ---- which revision ---- */

/* 504: the client knows more than this server, which has to catch up (or has lost its store). */
static json_t *too_large(int64_t wanted, int64_t present) {
    json_t *status =
        status_error(504, "Timeout", "Too large resource version: %lld, current: %lld", (long long)wanted, (long long)present);
    json_object_set_new(status, "details",
                        json_pack("{s:[{s:s, s:s}], s:i}", "causes", "reason", "ResourceVersionTooLarge", "message",
                                  "Too large resource version", "retryAfterSeconds", 1));
    return status;
}

/* resourceVersionMatch and sendInitialEvents where they mean something, as kube-apiserver checks them (validation of ListOptions in
 * k8s.io/apimachinery): a client that is refused falls back to list and watch, one that is misunderstood hangs. */
static json_t *check_match(const struct call *call, bool is_watch, int64_t revision) {
    cleanup_free char *match = call_query(call, "resourceVersionMatch");
    cleanup_free char *initial = call_query(call, "sendInitialEvents");
    cleanup_free char *token = call_query(call, "continue");
    bool has_match = match != NULL && *match != '\0';
    bool has_initial = initial != NULL && *initial != '\0';
    bool is_not_older = has_match && strcmp(match, "NotOlderThan") == 0;
    bool is_exact = has_match && strcmp(match, "Exact") == 0;
    const char *field = "resourceVersionMatch";
    const char *why = NULL;
    if (is_watch && has_initial && !is_not_older) {
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    } else if (is_watch && has_match && !has_initial) {
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
    } else if (!is_watch && has_initial) {
        field = "sendInitialEvents";
        why = "sendInitialEvents is forbidden for list";
    } else if (!is_watch && has_match && token != NULL && *token != '\0') {
        why = "resourceVersionMatch is forbidden when continue is provided";
    } else if (!is_watch && is_exact && revision == 0) {
        why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    } else if (has_match && !is_exact && !is_not_older) {
        return status_error(422, "Invalid",
                            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: "
                            "\"%.64s\": supported values: \"Exact\", \"NotOlderThan\"",
                            match);
    }
    return why == NULL ? NULL
                       : status_error(422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: %s: Forbidden: %s", field, why);
}

/* ---- watch ---- */

static json_t *start_watch(struct call *call, struct selector *labels, struct field_selector *fields) {
    struct watch_options options = {.resource = call->target.resource,
                                    .namespace = call->target.namespace,
                                    .labels = labels,
                                    .fields = *fields,
                                    .answer = call->answer,
                                    .sends_bookmarks = query_flag(call, "allowWatchBookmarks")};
    int64_t timeout_seconds = 0;
    int64_t present = state_revision(call->api->state);
    cleanup_free char *initial = call_query(call, "sendInitialEvents");
    json_t *status = query_number(call, "resourceVersion", 0, &options.from_revision);
    status = status != NULL ? status : check_match(call, true, options.from_revision);
    status = status != NULL ? status : query_number(call, "timeoutSeconds", 0, &timeout_seconds);
    if (status == NULL && timeout_seconds > WATCH_SECONDS_MAX) {
        timeout_seconds = WATCH_SECONDS_MAX;
    }
    bool wants_initial = query_flag(call, "sendInitialEvents");
    if (status == NULL && wants_initial && options.from_revision > present) {
        status = too_large(options.from_revision, present);
    }
    if (status != NULL) {
        selector_free(labels);
        field_selector_release(fields);
        return status;
    }
    options.timeout_ms = timeout_seconds * 1000;
    options.marks_initial_events = wants_initial && options.sends_bookmarks;
    bool refuses_initial = initial != NULL && *initial != '\0' && !wants_initial;
    options.sends_initial_events = wants_initial || (options.from_revision == 0 && !refuses_initial);
    struct watch_hub *hub = call->api->watches;
    cleanup_free char *namespace = call->target.namespace != NULL ? xstrdup(call->target.namespace) : NULL;
    options.namespace = namespace;
    if (watch_hub_is_full(hub)) {
        selector_free(labels);
        field_selector_release(fields);
        return status_error(429, "TooManyRequests", "%d watches are open, which is the limit", WATCHES_MAX);
    }
    watch_start(hub, call_release_http(call), &options);
    return NULL;
}

/* ---- list ---- */

struct list_request {
    const struct selector *labels;
    const struct field_selector *fields;
    int64_t limit;    /* 0 = none */
    int64_t revision; /* of the snapshot */
    char *after;      /* key behind which to go on, NULL = from the start */
};

/* A continue token is base64 of "REVISION:KEY". */
static json_t *read_continue(struct call *call, struct list_request *list) {
    cleanup_free char *token = call_query(call, "continue");
    if (token == NULL || *token == '\0') {
        return NULL;
    }
    size_t len = strlen(token);
    cleanup_free unsigned char *text = xcalloc(len + 4, 1);
    char *colon = NULL;
    if (len % 4 == 0 && EVP_DecodeBlock(text, (const unsigned char *)token, (int)len) > 0) {
        colon = strchr((const char *)text, ':');
    }
    if (colon == NULL || strspn((const char *)text, "0123456789") != (size_t)(colon - (char *)text) || colon - (char *)text > 18) {
        return status_error(400, "BadRequest", "continue key is not valid");
    }
    list->revision = strtoll((const char *)text, NULL, 10);
    list->after = xstrdup(colon + 1);
    return NULL;
}

static char *write_continue(int64_t revision, const char *key) {
    cleanup_free char *text = xasprintf("%lld:%s", (long long)revision, key);
    size_t len = strlen(text);
    char *token = xmalloc(len / 3 * 4 + 8);
    EVP_EncodeBlock((unsigned char *)token, (const unsigned char *)text, (int)len);
    return token;
}

static json_t *read_list_request(struct call *call, struct list_request *list) {
    int64_t present = state_revision(call->api->state);
    int64_t wanted = 0;
    json_t *status = query_number(call, "limit", 0, &list->limit);
    status = status != NULL ? status : query_number(call, "resourceVersion", 0, &wanted);
    if (status != NULL) {
        return status;
    }
    cleanup_free char *match = call_query(call, "resourceVersionMatch");
    list->revision = match != NULL && strcmp(match, "Exact") == 0 && wanted > 0 ? wanted : present;
    status = check_match(call, false, wanted);
    status = status != NULL ? status : read_continue(call, list);
    if (status == NULL && (wanted > present || list->revision > present)) {
        status = too_large(wanted, present);
    }
    return status;
}

struct found {
    const char *key;
    const json_t *object;
};

struct found_list {
    struct found *items;
    size_t count;
    size_t capacity;
};

static void found_add(struct found_list *found, const char *key, const json_t *object) {
    if (found->count == found->capacity) {
        found->capacity = found->capacity == 0 ? 64 : found->capacity * 2;
        found->items = xrealloc(found->items, found->capacity * sizeof(struct found));
    }
    found->items[found->count++] = (struct found){key, object};
}

static int compare_found(const void *a, const void *b) {
    return strcmp(((const struct found *)a)->key, ((const struct found *)b)->key);
}

/* The objects as they were at list->revision: the present ones, with the changes since then undone from the history. -1: forgotten.
 */
static int collect(struct call *call, const struct list_request *list, struct found_list *found) {
    struct state *state = call->api->state;
    const struct resource *resource = call->target.resource;
    struct map undone = MAP_INIT; /* key -> the first change after the snapshot */
    if (list->revision < state_revision(state)) {
        int64_t index = state_history_find(state, resource, list->revision);
        if (index < 0) {
            return -1;
        }
        const struct change *change = NULL;
        while ((change = state_history_at(state, resource, index++)) != NULL) {
            if (map_get(&undone, change->key) == NULL) {
                (void)map_set(&undone, change->key, (void *)change);
            }
        }
    }
    struct state_iterator it = state_iterate(state, resource, call->target.namespace, list->after);
    const json_t *object = NULL;
    while ((object = state_next(&it)) != NULL) {
        if ((undone.count == 0 || map_get(&undone, it.key) == NULL) &&
            watch_selects(call->target.namespace, list->labels, list->fields, object)) {
            found_add(found, it.key, object);
        }
    }
    bool is_sorted = true;
    const struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&undone, &at)) != NULL;) {
        const struct change *change = entry->value;
        if ((list->after == NULL || strcmp(change->key, list->after) > 0) &&
            watch_selects(call->target.namespace, list->labels, list->fields, change->old_object)) {
            found_add(found, change->key, change->old_object);
            is_sorted = false;
        }
    }
    map_release(&undone);
    if (!is_sorted) {
        qsort(found->items, found->count, sizeof(struct found), compare_found);
    }
    return 0;
}

static void reply_list(struct call *call, const struct list_request *list, const struct found_list *found) {
    size_t count = list->limit > 0 && (size_t)list->limit < found->count ? (size_t)list->limit : found->count;
    bool is_cut = count < found->count;
    bool is_selective = list->labels != NULL || list->fields->count > 0;
    cleanup_free char *token = is_cut ? write_continue(list->revision, found->items[count - 1].key) : NULL;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct answer_list answer = {
        .out = &body, .resource = call->target.resource, .options = &call->answer, .now_ms = clock_wall_ms()};
    answer_list_begin(&answer, list->revision, token, is_cut && !is_selective ? (int64_t)(found->count - count) : -1);
    for (size_t i = 0; i < count; i++) {
        answer_list_item(&answer, found->items[i].object);
    }
    answer_list_end(&answer);
    buffer_append_char(&body, '\n');
    call_reply_text(call, 200, body.data, body.len);
}

/* GET of a name with watch=true (old clients) is a watch of that one object. */
static void narrow_to_name(const struct call *call, struct field_selector *fields) {
    if (call->target.name != NULL && fields->count < FIELD_TERMS_MAX) {
        fields->terms[fields->count++] = (struct field_term){.path = xstrdup("metadata.name"), .value = xstrdup(call->target.name)};
    }
}

json_t *verb_list(struct call *call) {
    struct selector *labels = NULL;
    struct field_selector fields;
    json_t *status = call_selectors(call, &labels, &fields);
    if (status == NULL && (query_flag(call, "watch") || call->target.name != NULL)) {
        narrow_to_name(call, &fields);
        return start_watch(call, labels, &fields);
    }
    struct list_request list = {.labels = labels, .fields = &fields};
    struct found_list found = {0};
    status = status != NULL ? status : read_list_request(call, &list);
    if (status == NULL && collect(call, &list, &found) < 0) {
        status = status_expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new list without "
            "the continue parameter.");
    }
    if (status == NULL) {
        reply_list(call, &list, &found);
    }
    free(found.items);
    free(list.after);
    selector_free(labels);
    field_selector_release(&fields);
    return status;
}
