/* Calls to a Kubernetes API on a loop: JSON in, JSON out, each with a deadline. Watches are in kube/watch_cache.h. */
#ifndef DAVIT_KUBE_CLIENT_H
#define DAVIT_KUBE_CLIENT_H

#include "base/json.h"
#include "io/transfer.h"
#include "kube/config.h"
#include "kube/glance.h"

struct kube_client;
struct kube_call;

struct kube_resource {
    const char *group; /* "" = core */
    const char *version;
    const char *plural;
    const char *kind;
    bool is_namespaced;
};
extern const struct kube_resource kube_pods, kube_services, kube_secrets, kube_config_maps, kube_events, kube_nodes,
    kube_namespaces, kube_deployments, kube_replicasets, kube_endpoint_slices, kube_leases, kube_model_adapters, kube_http_routes,
    kube_reference_grants;

/* `config` is borrowed and outlives the client. `user_agent`: "davit-controller". At most `calls_max` calls run at once, more wait
 * in order. */
struct kube_client *kube_client_new(struct loop *loop, struct transfers *transfers, const struct kube_config *config,
                                    const char *user_agent, int calls_max);
void kube_client_free(struct kube_client *client); /* cancels what runs; not inside of on_data */
/* From now on a write (anything but GET) is sent only if may_send(arg) says so at the moment of sending; else it ends with
 * ERROR_DENIED and nothing was sent. For those who write only while they lead: lease_may_send and their lease. */
void kube_client_guard_writes(struct kube_client *client, bool (*may_send)(void *arg), void *arg);
struct loop *kube_client_loop(struct kube_client *client);

enum kube_verb { KUBE_GET, KUBE_LIST, KUBE_CREATE, KUBE_UPDATE, KUBE_PATCH_MERGE, KUBE_PATCH_JSON, KUBE_DELETE };

struct kube_request {
    enum kube_verb verb;
    const struct kube_resource *resource;
    const char *namespace;   /* NULL for cluster-scoped resources and for lists over all namespaces */
    const char *name;        /* NULL for lists and creates */
    const char *subresource; /* "status", "scale"; NULL = none */
    const char *query;       /* already encoded, without '?'; NULL = none */
    const json_t *body;      /* object, patch or DeleteOptions; borrowed only during the call of kube_start */
    const char *body_text;   /* that as compact JSON, where the caller has it already; NULL = not */
    int64_t timeout_ms;      /* 0 = 30 s */
    bool is_urgent;          /* outside of calls_max, and kube_client_guard_writes does not concern it: for leases */
    /* Asked of an answer: the caller knows this version already, or has no use for it, and takes its identity
     * (kube_glance_identity) for the object. NULL = no. */
    bool (*is_known)(void *arg, const struct kube_glance *answer);
    /* Once, unless cancelled. `object`: what the API answered, without metadata.managedFields, borrowed. err: with the code of the
     * Status (ERROR_NOT_FOUND, ERROR_CONFLICT and ERROR_EXISTS by its reason, ...), message "get pods default/x: <message of the
     * Status>". */
    void (*on_done)(void *arg, json_t *object, const struct error *err);
    void *arg;
};

/* Never calls back before it returns. The request is copied. */
struct kube_call *kube_start(struct kube_client *client, const struct kube_request *request);
void kube_call_cancel(struct kube_call *call);

/* A streamed GET outside `calls_max`, for watches: 2xx bodies go to on_data as they come (-1 ends the stream), on_done is called
 * once, unless cancelled; err carries the API's own message where there is one, prefixed with `what` ("watch pods"). timeout_ms:
 * the whole stream. */
struct kube_stream;
struct kube_stream_request {
    const char *path_and_query;
    const char *what;
    int64_t timeout_ms;
    int (*on_data)(void *arg, const char *bytes, size_t len);
    void (*on_done)(void *arg, const struct error *err);
    void *arg;
};
struct kube_stream *kube_stream_start(struct kube_client *client, const struct kube_stream_request *request);
void kube_stream_cancel(struct kube_stream *stream);

/* "/apis/model.aibrix.ai/v1alpha1/namespaces/NS/modeladapters/NAME/status", of the caller's. */
char *kube_path(const struct kube_resource *resource, const char *namespace, const char *name, const char *subresource);

/* An object in few bytes, for caches: a string of its namespace, name, uid and resourceVersion and of whatever is kept of it beside
 * these. A new reference. */
json_t *kube_record(const json_t *object, const void *rest, size_t len);
/* That rest, borrowed; NULL when it is no record. */
const char *kube_record_rest(const json_t *record, size_t *ret_len);
/* Borrowed from any object, or record of one: metadata.name, metadata.namespace ("" when none), metadata.uid,
 * metadata.resourceVersion. Never NULL.
 */
const char *kube_name(const json_t *object);
const char *kube_namespace(const json_t *object);
const char *kube_uid(const json_t *object);
const char *kube_resource_version(const json_t *object);
bool kube_is_deleting(const json_t *object); /* has a deletionTimestamp */
/* {"apiVersion","kind","name","uid","controller":true,"blockOwnerDeletion":true}; a new reference. */
json_t *kube_owner_reference(const json_t *owner);
bool kube_is_controlled_by(const json_t *object, const json_t *owner); /* by uid */
const char *kube_controller_uid(const json_t *object);        /* the uid of the owner that is its controller, "" when none */
char *kube_api_version(const struct kube_resource *resource); /* "apps/v1", of the caller's */

#endif
