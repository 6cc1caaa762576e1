/* The strings of the wire: groups, labels, annotations, finalizer, container and port names (AIBrix v0.7). */
#ifndef DAVIT_ADAPTER_NAMES_H
#define DAVIT_ADAPTER_NAMES_H

#define MODEL_ADAPTER_GROUP "model.aibrix.ai"
#define MODEL_ADAPTER_VERSION "v1alpha1"
#define MODEL_ADAPTER_API_VERSION MODEL_ADAPTER_GROUP "/" MODEL_ADAPTER_VERSION
#define MODEL_ADAPTER_KIND "ModelAdapter"
#define MODEL_ADAPTER_FINALIZER "adapter.model.aibrix.ai/finalizer"

#define LABEL_MODEL_NAME                                                                                                           \
    "model.aibrix.ai/name" /* on pods and workloads: the base model served; on an adapter's Service: its base model */
#define LABEL_MODEL_PORT "model.aibrix.ai/port"     /* serving port of the engine */
#define LABEL_MODEL_ENGINE "model.aibrix.ai/engine" /* "vllm", "sglang", ... */
#define LABEL_ADAPTER_NAME "adapter.model.aibrix.ai/name"
#define LABEL_ADAPTER_NAMESPACE "adapter.model.aibrix.ai/namespace" /* on an adapter's HTTPRoute, which may live elsewhere */
#define ANNOTATION_ADAPTER_UID "adapter.model.aibrix.ai/uid"
#define ANNOTATION_CUSTOM_PATHS "model.aibrix.ai/model-router-custom-paths" /* on an adapter: path prefixes, by commas */
#define LABEL_ADAPTER_ENABLED "adapter.model.aibrix.ai/enabled"
/* On an adapter's EndpointSlice: JSON object from pod name (targetRef) to the name under which that pod's engine has the adapter;
 * a pod that is not in it has it under the adapter's own. */
#define ANNOTATION_ENGINE_NAMES "adapter.model.aibrix.ai/engine-names"
#define LABEL_SERVICE_NAME "kubernetes.io/service-name"
#define LABEL_ZONE "topology.kubernetes.io/zone" /* on nodes */
#define LABEL_MANAGED_BY "endpointslice.kubernetes.io/managed-by"
#define MANAGED_BY "davit-controller"
#define LABEL_APP_MANAGED_BY "app.kubernetes.io/managed-by" /* of what no owner reference can mark as ours */

#define SIDECAR_CONTAINER "aibrix-runtime"
#define SIDECAR_PORT 8080
#define ENGINE_PORT 8000
#define ADDITIONAL_CONFIG_API_KEY "api-key"
#define API_KEY_SECRET_KEY "api-key" /* of spec.apiKeySecretRef when it names none */
#define DIGEST_PREFIX "sha256:"      /* may stand before spec.digest */

#endif
