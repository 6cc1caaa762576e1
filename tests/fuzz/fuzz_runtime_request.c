/* libFuzzer target: the bodies that the sidecar takes. A refusal is JSON; what is accepted leads nowhere but where it says. */
#include "runtime/lora_request.h"
#include "runtime/model_request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct model_defaults defaults = {.folder = "/models", .suffixes = "", .revision = "main"};

static void check_refusal(const struct buffer *refusal) {
    cleanup_json json_t *value = json_parse(buffer_text(refusal), refusal->len, NULL);
    if (!json_is_object(value)) {
        abort();
    }
}

static void check_folder(const char *folder) {
    if (folder[0] != '/' || strstr(folder, "/../") != NULL || strlen(folder) > MODEL_FOLDER_BYTES_MAX) {
        abort();
    }
}

static void check_model(const char *text, size_t len) {
    cleanup_buffer struct buffer refusal = BUFFER_INIT;
    struct model_request request;
    if (model_request_parse(text, len, &defaults, &request, &refusal) < 0) {
        check_refusal(&refusal);
        return;
    }
    check_folder(request.folder);
    if (!is_model_name(request.name) || strstr(request.name, "..") == request.name || request.name[0] == '/' ||
        request.url[0] == '\0' || request.source == NULL || request.secrets.count > ARTIFACT_SECRETS_MAX) {
        abort();
    }
    model_request_release(&request);
}

static void check_list(const char *text, size_t len) {
    cleanup_buffer struct buffer refusal = BUFFER_INIT;
    cleanup_free char *folder = NULL;
    if (model_list_parse(text, len, &defaults, &folder, &refusal) < 0) {
        check_refusal(&refusal);
    } else {
        check_folder(folder);
    }
}

static void check_lora(enum lora_verb verb, const char *text, size_t len) {
    cleanup_buffer struct buffer refusal = BUFFER_INIT;
    struct lora_request request;
    if (lora_request_parse(verb, text, len, &request, &refusal) < 0) {
        check_refusal(&refusal);
    } else {
        lora_request_release(&request);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *text = xstrndup((const char *)data, size); /* bodies end with NUL */
    check_model(text, strlen(text));
    check_list(text, strlen(text));
    check_lora(LORA_LOAD, text, strlen(text));
    check_lora(LORA_UNLOAD, text, strlen(text));
    return 0;
}
