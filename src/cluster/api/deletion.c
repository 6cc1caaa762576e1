#include "cluster/api/deletion.h"

#include "base/clock.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"

#include <string.h>

#define GRACE_DEFAULT_SECONDS 30

json_t *deletion_parse(const json_t *body, const char *grace_query, const char *policy_query, struct deletion *ret_deletion) {
    *ret_deletion = DELETION_BACKGROUND;
    if (body != NULL && !json_is_object(body)) {
        return status_error(400, "BadRequest", "DeleteOptions must be a JSON object");
    }
    const json_t *grace = json_object_get(body, "gracePeriodSeconds");
    if (json_is_integer(grace)) {
        ret_deletion->grace_seconds = json_integer_value(grace);
    } else if (grace_query != NULL && *grace_query != '\0') {
        ret_deletion->grace_seconds = strtoll(grace_query, NULL, 10);
    }
    if (ret_deletion->grace_seconds > INT32_MAX) {
        return status_error(400, "BadRequest", "gracePeriodSeconds: Invalid value: %lld", (long long)ret_deletion->grace_seconds);
    }
    const char *policy = json_string_at(body, "propagationPolicy", policy_query != NULL ? policy_query : "");
    ret_deletion->is_foreground = strcmp(policy, "Foreground") == 0;
    ret_deletion->is_orphaning = strcmp(policy, "Orphan") == 0 || json_bool_at(body, "orphanDependents", false);
    if (*policy != '\0' && !ret_deletion->is_foreground && strcmp(policy, "Orphan") != 0 && strcmp(policy, "Background") != 0) {
        return status_error(
            422, "Invalid",
            "propagationPolicy: Unsupported value: \"%s\": supported values: \"Background\", \"Foreground\", \"Orphan\"", policy);
    }
    ret_deletion->uid = json_string_at(body, "preconditions.uid", NULL);
    ret_deletion->revision = json_string_at(body, "preconditions.resourceVersion", NULL);
    return NULL;
}

json_t *deletion_check(const struct deletion *deletion, const struct resource *resource, const json_t *object) {
    const char *name = object_name(object);
    if (deletion->uid != NULL && strcmp(deletion->uid, object_uid(object)) != 0) {
        cleanup_free char *why =
            xasprintf("Precondition failed: UID in precondition: %s, UID in object meta: %s", deletion->uid, object_uid(object));
        return status_conflict(resource, name, why);
    }
    if (deletion->revision != NULL && strcmp(deletion->revision, object_revision_text(object)) != 0) {
        cleanup_free char *why =
            xasprintf("Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s",
                      deletion->revision, object_revision_text(object));
        return status_conflict(resource, name, why);
    }
    if (resource == resource_namespaces && (strcmp(name, "default") == 0 || strcmp(name, "kube-system") == 0)) {
        return status_error_on(resource, name, 403, "Forbidden",
                               "namespaces \"%s\" is forbidden: this namespace may not be deleted", name);
    }
    return NULL;
}

/* Seconds that the object may take to end: pods that a node runs. */
static int64_t grace_of(const struct resource *resource, const json_t *object, const struct deletion *deletion) {
    if (!resource->is_graceful || *json_string_at(object, "spec.nodeName", "") == '\0') {
        return 0;
    }
    const char *phase = json_string_at(object, "status.phase", "");
    if (strcmp(phase, "Failed") == 0 || strcmp(phase, "Succeeded") == 0) {
        return 0;
    }
    if (deletion->grace_seconds >= 0) {
        return deletion->grace_seconds;
    }
    int64_t own = json_int_at(object, "spec.terminationGracePeriodSeconds", GRACE_DEFAULT_SECONDS);
    return own >= 0 ? own : GRACE_DEFAULT_SECONDS;
}

bool deletion_is_complete(const struct resource *resource, const json_t *object) {
    return object_is_deleting(object) && resource != resource_namespaces && !object_has_finalizers(object) &&
           json_int_at(object, "metadata.deletionGracePeriodSeconds", 0) == 0;
}

static json_t *mark(const struct resource *resource, const json_t *object, const struct deletion *deletion, int64_t grace) {
    json_t *marked = object_touch(object);
    json_t *meta = object_meta_mutable(marked);
    bool was_deleting = object_is_deleting(object);
    if (!was_deleting || grace < json_int_at(object, "metadata.deletionGracePeriodSeconds", 0)) {
        char when[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(clock_wall_ms() + grace * 1000, when);
        json_object_set_new(meta, "deletionTimestamp", json_string(when));
        json_object_set_new(meta, "deletionGracePeriodSeconds", json_integer(grace));
    }
    if (!was_deleting && resource->has_generation) {
        json_object_set_new(meta, "generation", json_integer(json_int_at(object, "metadata.generation", 0) + 1));
    }
    if (deletion->is_foreground) {
        object_add_finalizer(marked, FINALIZER_FOREGROUND);
    }
    if (resource == resource_namespaces) {
        json_t *status = json_copy(json_object_get(marked, "status"));
        status = status != NULL ? status : json_object();
        json_object_set_new(status, "phase", json_string("Terminating"));
        json_object_set_new(marked, "status", status);
    }
    return marked;
}

enum deletion_outcome deletion_run(struct transaction *transaction, const struct state *state, const struct resource *resource,
                                   const char *key, const struct deletion *deletion, json_t **ret_object) {
    const json_t *object = state_latest(state, resource, key);
    int64_t grace = grace_of(resource, object, deletion);
    bool waits = grace > 0 || object_has_finalizers(object) || deletion->is_foreground || resource == resource_namespaces;
    if (!waits) {
        *ret_object = json_incref((json_t *)transaction_delete(transaction, resource, key));
        return DELETION_REMOVED;
    }
    cleanup_json json_t *marked = mark(resource, object, deletion, grace);
    if (json_equal(marked, object)) {
        *ret_object = json_incref((json_t *)object);
        return DELETION_UNCHANGED;
    }
    *ret_object = json_incref((json_t *)transaction_put(transaction, resource, key, json_incref(marked)));
    return DELETION_MARKED;
}
