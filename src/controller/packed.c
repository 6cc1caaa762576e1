#include "controller/packed.h"

#include <stdint.h>
#include <string.h>
#include <zlib.h>

/* Small, since a packing lives for microseconds and a text is some kilobytes long. */
#define WINDOW_BITS 12
#define MEMORY_LEVEL 5
#define HEAD_BYTES sizeof(uint32_t) /* the text's length */

/* What is met most often is last: it is the shortest to point at. */
static const char words[] =
    "\"reason\":\"NotPublished\",\"reason\":\"Loading\",\"reason\":\"Scheduled\",\"reason\":\"Pending\",\"reason\":"
    "\"PartiallyLoaded\","
    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"labels\":{\"adapter.model.aibrix.ai/name\":\"model.aibrix.ai/"
    "name\":\""
    "\"clusterIP\":\"None\",\"clusterIPs\":[\"None\"],\"internalTrafficPolicy\":\"Cluster\",\"ipFamilies\":[\"IPv4\"],"
    "\"ipFamilyPolicy\":"
    "\"SingleStack\",\"ports\":[{\"name\":\"http\",\"port\":8000,\"protocol\":\"TCP\",\"targetPort\":8000}],"
    "\"publishNotReadyAddresses\":"
    "true,\"sessionAffinity\":\"None\",\"type\":\"ClusterIP\"},\"status\":{\"loadBalancer\":{}}}"
    "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"addressType\":\"IPv4\",\"endpoints\":[{\"addresses\":[\""
    "\"metadata\":{\"labels\":{\"endpointslice.kubernetes.io/managed-by\":\"kubernetes.io/service-name\":\"\"ownerReferences\":[{"
    "\"apiVersion\":\"model.aibrix.ai/"
    "v1alpha1\",\"blockOwnerDeletion\":true,\"controller\":true,\"kind\":\"ModelAdapter\",\"name\":\""
    "\"name\":\"\",\"namespace\":\"\",\"uid\":\"\",\"resourceVersion\":\"\"},"
    "\"],\"conditions\":{\"ready\":true,\"serving\":true,\"terminating\":false},\"nodeName\":\"\",\"targetRef\":{\"kind\":\"Pod\","
    "\"name\":\""
    "{\"phase\":\"Running\",\"observedGeneration\":1,\"revision\":\"\",\"desiredReplicas\":,\"readyReplicas\":,\"instances\":[\""
    "\"conditions\":[{\"type\":\"Initialized\",\"status\":\"True\",\"lastTransitionTime\":\"20\",\"reason\":"
    "\"ModelAdapterAvailable\","
    "\"message\":\"ModelAdapter  is ready\"},{\"type\":\"Scheduled\",\"status\":\"True\",\"message\":\" is placed on  pods: "
    "[\"},{\"type\":"
    "\"Bound\",\"message\":\"loaded and proved on  of  pods\"},{\"type\":\"ResourceCreated\",\"message\":\"Service and "
    "EndpointSlice  are up "
    "to date\"},{\"type\":\"Ready\",\"observedGeneration\":1,\"status\":\"False\",\"type\":\"FullyLoaded\",\"message\":\" of "
    "\"},{\"type\":"
    "\"NoEffect\",\"status\":\"False\",\"reason\":\"EffectSeen\",\"message\":\"the adapter changes the model's "
    "log-probabilities\"}],"
    "\"loads\":[{\"loadMillis\":,\"pod\":\"\",\"reason\":\"Loaded\",\"revision\":\"\",\"since\":\"20\",\"state\":\"Ready\"},{";

void packed_append(struct buffer *out, const char *text, size_t len) {
    z_stream stream = {0};
    uint32_t head = len <= UINT32_MAX ? (uint32_t)len : UINT32_MAX; /* objects are at most some megabytes */
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK ||
        deflateSetDictionary(&stream, (const Bytef *)words, sizeof(words) - 1) != Z_OK) {
        abort(); /* there is no memory */
    }
    size_t room = deflateBound(&stream, head);
    buffer_append(out, &head, HEAD_BYTES);
    buffer_reserve(out, room);
    stream.next_in = (Bytef *)text;
    stream.avail_in = head;
    stream.next_out = (Bytef *)out->data + out->len;
    stream.avail_out = (uInt)room;
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) {
        abort(); /* deflateBound said that there is room */
    }
    out->len += room - stream.avail_out;
    (void)deflateEnd(&stream);
}

char *packed_read(const char *bytes, size_t len, size_t *ret_len) {
    z_stream stream = {0};
    uint32_t head = 0;
    if (len < HEAD_BYTES || inflateInit2(&stream, -WINDOW_BITS) != Z_OK) {
        return NULL;
    }
    memcpy(&head, bytes, HEAD_BYTES);
    char *text = xmalloc((size_t)head + 1);
    stream.next_in = (Bytef *)bytes + HEAD_BYTES;
    stream.avail_in = (uInt)(len - HEAD_BYTES);
    stream.next_out = (Bytef *)text;
    stream.avail_out = head + 1; /* one more than is needed: its end is seen */
    int result =
        inflateSetDictionary(&stream, (const Bytef *)words, sizeof(words) - 1) == Z_OK ? inflate(&stream, Z_FINISH) : Z_DATA_ERROR;
    bool is_whole = result == Z_STREAM_END && stream.total_out == head;
    (void)inflateEnd(&stream);
    if (!is_whole) {
        free(text);
        return NULL;
    }
    text[head] = '\0';
    *ret_len = head;
    return text;
}
