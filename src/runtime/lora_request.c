#include "runtime/lora_request.h"

#include "runtime/form.h"

#include <string.h>

/* Tried in this order; the first that fits is it. */
static const struct form forms[][2] = {
    [LORA_LOAD] =
        {
            {"LoadLoraAdapterRuntimeRequest",
             {{"lora_name", FORM_STRING, true},
              {"artifact_url", FORM_STRING, true},
              {"credentials_secret", FORM_STRING, false},
              {"credentials", FORM_STRINGS, false},
              {"additional_config", FORM_STRINGS, false},
              {"local_dir", FORM_STRING, false}}},
            {"LoadLoraAdapterRequest", {{"lora_name", FORM_STRING, true}, {"lora_path", FORM_STRING, true}}},
        },
    [LORA_UNLOAD] =
        {
            {"UnloadLoraAdapterRuntimeRequest", {{"lora_name", FORM_STRING, true}, {"cleanup_local", FORM_BOOL, false}}},
            {"UnloadLoraAdapterRequest", {{"lora_name", FORM_STRING, true}, {"lora_int_id", FORM_INT, false}}},
        },
};

int lora_request_parse(enum lora_verb verb, const char *bytes, size_t len, struct lora_request *ret_request,
                       struct buffer *detail) {
    cleanup_json json_t *body = NULL;
    int form = form_parse(forms[verb], 2, bytes, len, &body, detail);
    if (form < 0) {
        return -1;
    }
    *ret_request = (struct lora_request){
        .is_direct = form == 1,
        .name = json_string_at(body, "lora_name", ""),
        .source = json_string_at(body, form == 1 ? "lora_path" : "artifact_url", ""),
    };
    ret_request->body = take_pointer(body);
    return 0;
}

void lora_request_release(struct lora_request *request) {
    json_decref(request->body);
    *request = (struct lora_request){0};
}

static bool is_alphanumeric(char byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

bool is_lora_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > 128 || !is_alphanumeric(name[0])) {
        return false;
    }
    for (size_t i = 1; i < len; i++) {
        if (!is_alphanumeric(name[i]) && strchr("._-", name[i]) == NULL) {
            return false;
        }
    }
    return true;
}
