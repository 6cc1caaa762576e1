/* libFuzzer target: kubeconfig files and manifests. What is accepted is plain JSON: written and read again it is the same. */
#include "kube/yaml.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct error err = {0};
    cleanup_json json_t *documents = yaml_parse_all((const char *)data, size, &err);
    if (documents == NULL) {
        if (err.message[0] == '\0') {
            abort(); /* a refusal says why */
        }
        return 0;
    }
    cleanup_free char *text = json_text(documents);
    cleanup_json json_t *again = json_loads(text, JSON_ALLOW_NUL, NULL);
    if (!json_equal(documents, again)) {
        abort();
    }
    return 0;
}
