#include "adapter/engine_name.h"

#include "adapter/model_adapter.h"

#include <stdio.h>
#include <string.h>

#define TAG_LEN (ENGINE_TAG_BYTES - 1)

void engine_tag_of(const char *revision, char ret_tag[ENGINE_TAG_BYTES]) {
    size_t len = strlen(revision);
    size_t skipped = len > MODEL_ADAPTER_REVISION_URL_LEN ? MODEL_ADAPTER_REVISION_URL_LEN : 0; /* which are the URL's alone */
    snprintf(ret_tag, ENGINE_TAG_BYTES, "%.*s", TAG_LEN, revision + skipped);
}

char *engine_name_of(const char *adapter, const char *tag) {
    return tag[0] != '\0' ? xasprintf("%s_%s", adapter, tag) : xstrdup(adapter);
}

int engine_names_parse(const char *word, bool *ret_has_tags) {
    *ret_has_tags = strcmp(word, "versioned") == 0;
    return *ret_has_tags || strcmp(word, "plain") == 0 ? 0 : -1;
}

const char *engine_name_split(const char *name, size_t *ret_adapter_len) {
    size_t len = strlen(name);
    const char *tag = len > TAG_LEN + 1 ? name + len - TAG_LEN : "";
    bool has_tag = tag[0] != '\0' && tag[-1] == '_' && strspn(tag, "0123456789abcdef") == TAG_LEN;
    *ret_adapter_len = has_tag ? len - TAG_LEN - 1 : len;
    return has_tag ? tag : name + len;
}
