#include "cluster/api/deletion.h"
#include "cluster/api/gc.h"
#include "cluster/api/object.h"
#include "cluster/api/patch.h"
#include "cluster/api/status.h"
#include "cluster/api/strategy.h"
#include "cluster/api/verbs.h"

#include <string.h>

/* ---- shared ---- */

static json_t *make_input(struct call *call, struct strategy_input *ret_input) {
    cleanup_free char *text = call_query(call, "fieldValidation");
    *ret_input = (struct strategy_input){.resource = call->target.resource,
                                         .warnings = call->warnings,
                                         .namespace = call->target.namespace,
                                         .name = call->target.name};
    return field_validation_parse(text, &ret_input->field_validation);
}

static json_t *check_namespace_exists(const struct call *call, const json_t *object) {
    const char *namespace = call->target.namespace;
    if (!call->target.resource->is_namespaced) {
        return NULL;
    }
    const json_t *found = state_latest(call->api->state, resource_namespaces, namespace);
    if (found == NULL) {
        return status_not_found(resource_namespaces, namespace);
    }
    if (object_is_deleting(found) && call->target.resource != resource_events) {
        const char *name = object_name(object);
        return status_error_on(
            call->target.resource, name, 403, "Forbidden",
            "%s \"%s\" is forbidden: unable to create new content in namespace %s because it is being terminated",
            call->target.resource->plural, name, namespace);
    }
    return NULL;
}

static bool is_scale(const struct call *call) {
    return call->target.subresource != NULL && strcmp(call->target.subresource, "scale") == 0;
}

static bool is_status(const struct call *call) {
    return call->target.subresource != NULL && strcmp(call->target.subresource, "status") == 0;
}

/* ---- create ---- */

json_t *verb_create(struct call *call) {
    struct state *state = call->api->state;
    const struct resource *resource = call->target.resource;
    struct strategy_input input;
    cleanup_json json_t *object = NULL;
    if (resource->is_namespaced && call->target.namespace == NULL) {
        return status_error(400, "BadRequest", "a namespace is required to create %s", resource->plural);
    }
    json_t *status = call_check_json(call);
    status = status != NULL ? status : call_read_body(call, false, &object);
    status = status != NULL ? status : make_input(call, &input);
    status = status != NULL ? status : strategy_create(&input, object);
    status = status != NULL ? status : check_namespace_exists(call, object);
    if (status != NULL) {
        return status;
    }
    cleanup_free char *key = object_key(call->target.namespace, object_name(object));
    if (state_latest(state, resource, key) != NULL) {
        return status_exists(resource, object_name(object));
    }
    if (call->is_dry_run) {
        call_reply(call, 201, object);
        return NULL;
    }
    struct transaction *transaction = transaction_new(state);
    (void)transaction_put(transaction, resource, key, json_incref(object));
    call_submit(call, transaction, 201, json_incref(object));
    return NULL;
}

/* ---- update and patch ---- */

/* Stores `changed` over the latest object, or removes it when it is marked as deleted and this took its last finalizer; nothing
 * when it is equal. */
static void store_update(struct call *call, const char *key, const json_t *old_object, json_t *changed) {
    struct state *state = call->api->state;
    const struct resource *resource = call->target.resource;
    const json_t *result = changed;
    bool is_changed = json_equal(changed, old_object) == 0;
    bool is_removed = is_changed && deletion_is_complete(resource, changed) && !deletion_is_complete(resource, old_object);
    struct transaction *transaction = NULL;
    if (!call->is_dry_run) {
        transaction = transaction_new(state);
        if (is_changed) {
            result = transaction_put(transaction, resource, key, json_incref(changed));
        }
        if (is_removed) {
            result = transaction_delete(transaction, resource, key);
        }
    }
    cleanup_json json_t *answer = is_scale(call) ? strategy_scale_of(result) : json_incref((json_t *)result);
    if (call->is_dry_run) {
        call_reply(call, 200, answer);
    } else {
        call_submit(call, transaction, 200, json_incref(answer));
    }
}

/* `object` (changed in place): the whole new object, or the new Scale. */
static json_t *update_with(struct call *call, const struct strategy_input *input, const char *key, const json_t *old_object,
                           json_t *object) {
    cleanup_json json_t *scaled = NULL;
    cleanup_json json_t *changed = NULL;
    json_t *status = is_scale(call) ? strategy_with_scale(input->resource, old_object, object, &scaled) : NULL;
    status =
        status != NULL ? status : strategy_update(input, old_object, scaled != NULL ? scaled : object, is_status(call), &changed);
    if (status != NULL) {
        return status;
    }
    store_update(call, key, old_object, changed);
    return NULL;
}

static json_t *find_latest(const struct call *call, char **ret_key, const json_t **ret_object) {
    *ret_key = object_key(call->target.namespace, call->target.name);
    *ret_object = state_latest(call->api->state, call->target.resource, *ret_key);
    return *ret_object != NULL ? NULL : status_not_found(call->target.resource, call->target.name);
}

json_t *verb_update(struct call *call) {
    struct strategy_input input;
    cleanup_free char *key = NULL;
    cleanup_json json_t *body = NULL;
    const json_t *old_object = NULL;
    json_t *status = call_check_json(call);
    status = status != NULL ? status : call_read_body(call, false, &body);
    status = status != NULL ? status : make_input(call, &input);
    status = status != NULL ? status : find_latest(call, &key, &old_object);
    if (status != NULL) {
        return status;
    }
    if (call->target.resource->wants_revision && *object_revision_text(body) == '\0') {
        json_t *causes = json_array();
        cause_add(causes, "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update");
        return status_invalid(call->target.resource, call->target.name, causes);
    }
    return update_with(call, &input, key, old_object, body);
}

static json_t *patch_type_of(const struct call *call, enum patch_type *ret_type) {
    static const struct {
        const char *media_type;
        enum patch_type type;
    } types[] = {
        {"application/merge-patch+json", PATCH_MERGE},
        {"application/json-patch+json", PATCH_JSON},
        {"application/strategic-merge-patch+json", PATCH_STRATEGIC},
    };
    const char *content_type = http_fields_get(&http_request_head(call->http)->fields, "Content-Type");
    size_t len = content_type != NULL ? strcspn(content_type, "; ") : 0;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        bool is_refused = types[i].type == PATCH_STRATEGIC && call->target.resource->is_custom;
        if (strlen(types[i].media_type) == len && strncasecmp(content_type, types[i].media_type, len) == 0 && !is_refused) {
            *ret_type = types[i].type;
            return NULL;
        }
    }
    const char *strategic = call->target.resource->is_custom ? "" : ", application/strategic-merge-patch+json";
    return status_error(
        415, "UnsupportedMediaType",
        "the body of the request was in an unknown format (%.100s) - accepted media types include: application/json-patch+json, "
        "application/merge-patch+json%s; davit apiserver does not do server-side apply",
        content_type != NULL ? content_type : "no Content-Type", strategic);
}

/* What a merge patch of the status can have an effect on: the rest of the object needs no copy. */
static json_t *status_part(const json_t *object) {
    return json_pack("{s:O, s:O, s:O, s:O*}", "apiVersion", json_object_get(object, "apiVersion"), "kind",
                     json_object_get(object, "kind"), "metadata", json_object_get(object, "metadata"), "status",
                     json_object_get(object, "status"));
}

json_t *verb_patch(struct call *call) {
    struct strategy_input input;
    enum patch_type type = PATCH_MERGE;
    cleanup_free char *key = NULL;
    cleanup_json json_t *patch = NULL;
    cleanup_json json_t *part = NULL;
    cleanup_json json_t *patched = NULL;
    const json_t *old_object = NULL;
    json_t *status = patch_type_of(call, &type);
    status = status != NULL ? status : call_read_body(call, false, &patch);
    status = status != NULL ? status : make_input(call, &input);
    status = status != NULL ? status : find_latest(call, &key, &old_object);
    if (status != NULL) {
        return status;
    }
    part = is_scale(call)                           ? strategy_scale_of(old_object)
           : is_status(call) && type == PATCH_MERGE ? status_part(old_object)
                                                    : json_incref((json_t *)old_object);
    struct error err = {0};
    if (patch_apply(type, call->target.resource->kind, part, patch, &patched, &err) < 0) {
        if (err.code != ERROR_CONFLICT) {
            return status_error_on(call->target.resource, call->target.name, 400, "BadRequest", "%s", err.message);
        }
        json_t *causes = json_array();
        cause_add(causes, "FieldValueInvalid", "patch", "%s", err.message);
        return status_invalid(call->target.resource, call->target.name, causes);
    }
    return update_with(call, &input, key, old_object, patched);
}

/* ---- delete ---- */

static json_t *read_deletion(struct call *call, json_t **ret_body, struct deletion *ret_deletion) {
    cleanup_free char *grace = call_query(call, "gracePeriodSeconds");
    cleanup_free char *policy = call_query(call, "propagationPolicy");
    json_t *status = call_check_json(call);
    status = status != NULL ? status : call_read_body(call, true, ret_body);
    if (json_array_size(json_object_get(*ret_body, "dryRun")) > 0) {
        call->is_dry_run = true;
    }
    return status != NULL ? status : deletion_parse(*ret_body, grace, policy, ret_deletion);
}

static enum deletion_outcome delete_one(struct call *call, struct transaction *transaction, const char *key,
                                        const struct deletion *deletion, json_t **ret_object) {
    struct state *state = call->api->state;
    if (deletion->is_orphaning) {
        cleanup_free char *uid = xstrdup(object_uid(state_latest(state, call->target.resource, key)));
        gc_orphan_dependents(transaction, state, uid);
    }
    return deletion_run(transaction, state, call->target.resource, key, deletion, ret_object);
}

json_t *verb_delete(struct call *call) {
    const struct resource *resource = call->target.resource;
    struct deletion deletion;
    cleanup_free char *key = NULL;
    cleanup_json json_t *body = NULL;
    const json_t *object = NULL;
    json_t *status = read_deletion(call, &body, &deletion);
    status = status != NULL ? status : find_latest(call, &key, &object);
    status = status != NULL ? status : deletion_check(&deletion, resource, object);
    if (status != NULL) {
        return status;
    }
    cleanup_json json_t *success = status_success(resource, object_name(object), object_uid(object));
    if (call->is_dry_run) {
        call_reply(call, 200, success);
        return NULL;
    }
    struct transaction *transaction = transaction_new(call->api->state);
    cleanup_json json_t *result = NULL;
    bool is_removed = delete_one(call, transaction, key, &deletion, &result) == DELETION_REMOVED;
    call_submit(call, transaction, 200, json_incref(is_removed && !resource->is_graceful ? success : result));
    return NULL;
}

struct collected_key {
    char *key;
    struct collected_key *next;
};

struct collection_filter {
    const struct call *call;
    const struct selector *labels;
    const struct field_selector *fields;
    struct collected_key *first;
};

static bool collect_key(void *arg, const char *key, const json_t *object) {
    struct collection_filter *filter = arg;
    if (watch_selects(filter->call->target.namespace, filter->labels, filter->fields, object)) {
        struct collected_key *item = xcalloc(1, sizeof(*item));
        *item = (struct collected_key){xstrdup(key), filter->first};
        filter->first = item;
    }
    return true;
}

static json_t *delete_all(struct call *call, struct collected_key *first, const struct deletion *deletion) {
    struct state *state = call->api->state;
    for (const struct collected_key *item = first; item != NULL; item = item->next) {
        json_t *status = deletion_check(deletion, call->target.resource, state_latest(state, call->target.resource, item->key));
        if (status != NULL) {
            return status;
        }
    }
    cleanup_free char *api_version = resource_api_version(call->target.resource);
    cleanup_json json_t *items = json_array();
    struct transaction *transaction = call->is_dry_run ? NULL : transaction_new(state);
    for (const struct collected_key *item = first; item != NULL; item = item->next) {
        cleanup_json json_t *object = NULL;
        if (transaction != NULL) {
            (void)delete_one(call, transaction, item->key, deletion, &object);
        } else {
            object = json_incref((json_t *)state_latest(state, call->target.resource, item->key));
        }
        json_array_append(items, object);
    }
    cleanup_json json_t *list = json_pack("{s:o, s:s, s:{s:o}, s:O}", "kind", json_sprintf("%sList", call->target.resource->kind),
                                          "apiVersion", api_version, "metadata", "resourceVersion",
                                          json_sprintf("%lld", (long long)state_revision(state)), "items", items);
    if (transaction != NULL) {
        call_submit(call, transaction, 200, json_incref(list));
    } else {
        call_reply(call, 200, list);
    }
    return NULL;
}

json_t *verb_delete_collection(struct call *call) {
    struct deletion deletion;
    struct selector *labels = NULL;
    struct field_selector fields = {0};
    cleanup_json json_t *body = NULL;
    if (call->target.resource == resource_namespaces) {
        return status_error(405, "MethodNotAllowed", "namespaces are deleted one by one");
    }
    json_t *status = read_deletion(call, &body, &deletion);
    status = status != NULL ? status : call_selectors(call, &labels, &fields);
    if (status == NULL) {
        struct collection_filter filter = {.call = call, .labels = labels, .fields = &fields};
        state_each_latest(call->api->state, call->target.resource, collect_key, &filter);
        status = delete_all(call, filter.first, &deletion);
        while (filter.first != NULL) {
            struct collected_key *item = filter.first;
            filter.first = item->next;
            free(item->key);
            free(item);
        }
    }
    selector_free(labels);
    field_selector_release(&fields);
    return status;
}
