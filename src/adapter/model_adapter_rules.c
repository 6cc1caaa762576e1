#include "adapter/model_adapter_rules.h"

#include "adapter/model_adapter.h"

#include <string.h>

bool rule_has_scheme(const json_t *value) {
    const char *url = json_string_value(value);
    enum artifact_scheme scheme = artifact_scheme_of(url);
    return scheme == ARTIFACT_PATH || (scheme != ARTIFACT_UNKNOWN && strstr(url, "://")[3] != '\0');
}

bool rule_selects_something(const json_t *selector) {
    return json_object_size(json_object_get(selector, "matchLabels")) > 0 ||
           json_array_size(json_object_get(selector, "matchExpressions")) > 0;
}

bool rule_has_label_keys(const json_t *selector) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(selector, "matchLabels"), key, value) {
        if (!syntax_is_label_key(key)) {
            return false;
        }
    }
    return true;
}

bool rule_values_fit_operators(const json_t *selector) {
    size_t i = 0;
    const json_t *requirement = NULL;
    json_array_foreach(json_object_get(selector, "matchExpressions"), i, requirement) {
        const char *name = json_string_at(requirement, "operator", "");
        bool takes_values = strcmp(name, "In") == 0 || strcmp(name, "NotIn") == 0;
        if (takes_values != (json_array_size(json_object_get(requirement, "values")) > 0)) {
            return false;
        }
    }
    return true;
}

bool rule_is_count_or_percent(const json_t *value) {
    const char *text = json_string_value(value);
    if (text == NULL) {
        return json_integer_value(value) >= 1;
    }
    size_t digits = strspn(text, "0123456789");
    return strcmp(text + digits, "%") == 0 && text[0] != '0' &&
           (digits == 1 || digits == 2 || (digits == 3 && strncmp(text, "100", 3) == 0));
}
