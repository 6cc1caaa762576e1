#include "base/options.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

static const struct option_spec *find_option(const struct option_spec *table, const char *name, size_t len, bool *ret_negated) {
    *ret_negated = false;
    for (const struct option_spec *spec = table; spec->name != NULL; spec++) {
        if (strlen(spec->name) == len && memcmp(spec->name, name, len) == 0) {
            return spec;
        }
        if (spec->type == OPTION_FLAG && len > 3 && memcmp(name, "no-", 3) == 0 && strlen(spec->name) == len - 3 &&
            memcmp(spec->name, name + 3, len - 3) == 0) {
            *ret_negated = true;
            return spec;
        }
    }
    return NULL;
}

static int parse_flag(const char *text, bool *ret_value) {
    static const struct {
        const char *text;
        bool value;
    } words[] = {{"1", true},      {"true", true}, {"yes", true},  {"on", true}, {"0", false},
                 {"false", false}, {"no", false},  {"off", false}, {"", false}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(text, words[i].text) == 0) {
            *ret_value = words[i].value;
            return 0;
        }
    }
    return -1;
}

static int set_int(const struct option_spec *spec, const char *origin, const char *text, struct error *err) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        return error_set(err, ERROR_INVALID, "%s: expected a whole number, found \"%s\"", origin, text);
    }
    if ((spec->minimum != 0 || spec->maximum != 0) && (value < spec->minimum || value > spec->maximum)) {
        return error_set(err, ERROR_INVALID, "%s: %lld is not between %lld and %lld", origin, value, (long long)spec->minimum,
                         (long long)spec->maximum);
    }
    *(int64_t *)spec->target = value;
    return 0;
}

/* Numbers with units one after the other: "1m30s", "1.5s". */
static int parse_duration(const char *text, int64_t *ret_ms) {
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}}; /* "ms" before "m" */
    double total_ms = 0;
    if (*text == '\0') {
        return -1;
    }
    while (*text != '\0') {
        char *end = NULL;
        double number = strtod(text, &end);
        size_t unit = 0;
        while (unit < ARRAY_LEN(units) && strncmp(end, units[unit].name, strlen(units[unit].name)) != 0) {
            unit++;
        }
        if (end == text || unit == ARRAY_LEN(units) || !(number >= 0 && number < 1e9)) {
            return -1;
        }
        total_ms += number * units[unit].ms;
        text = end + strlen(units[unit].name);
    }
    *ret_ms = (int64_t)total_ms;
    return 0;
}

static int set_value(const struct option_spec *spec, const char *origin, const char *text, struct error *err) {
    switch (spec->type) {
    case OPTION_FLAG:
        if (parse_flag(text, spec->target) < 0) {
            return error_set(err, ERROR_INVALID, "%s: expected true or false, found \"%s\"", origin, text);
        }
        return 0;
    case OPTION_STRING:
        *(const char **)spec->target = text;
        return 0;
    case OPTION_INT:
        return set_int(spec, origin, text, err);
    case OPTION_FLOAT: {
        char *end = NULL;
        double value = strtod(text, &end);
        if (end == text || *end != '\0') {
            return error_set(err, ERROR_INVALID, "%s: expected a number, found \"%s\"", origin, text);
        }
        *(double *)spec->target = value;
        return 0;
    }
    case OPTION_DURATION:
        if (parse_duration(text, spec->target) < 0) {
            return error_set(err, ERROR_INVALID, "%s: expected a duration such as 15s or 1m30s, found \"%s\"", origin, text);
        }
        return 0;
    case OPTION_STRINGS: {
        struct option_strings *list = spec->target;
        if (list->count == OPTION_STRINGS_MAX) {
            return error_set(err, ERROR_LIMIT, "%s: given more than %d times", origin, OPTION_STRINGS_MAX);
        }
        list->values[list->count++] = text;
        return 0;
    }
    case OPTION_IGNORED:
        log_warn("%s is accepted and has no effect", origin);
        return 0;
    }
    return 0;
}

/* The option that shares the longest beginning, if that is at least three letters. */
static const char *closest_option(const struct option_spec *table, const char *name) {
    const char *best = NULL;
    size_t best_len = 2;
    for (const struct option_spec *spec = table; spec->name != NULL; spec++) {
        size_t len = 0;
        while (spec->name[len] != '\0' && spec->name[len] == name[len]) {
            len++;
        }
        if (len > best_len) {
            best = spec->name;
            best_len = len;
        }
    }
    return best;
}

static bool takes_value(const struct option_spec *spec) {
    return spec->type == OPTION_IGNORED ? spec->takes_value : spec->type != OPTION_FLAG;
}

static int parse_one(const struct option_spec *table, char **argv, int argc, int *at, struct error *err) {
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    bool negated = false;
    const struct option_spec *spec = find_option(table, name, len, &negated);
    if (spec == NULL) {
        const char *close = closest_option(table, name);
        return error_set(err, ERROR_INVALID, "unknown option --%.*s%s%s%s", (int)len, name,
                         close != NULL ? " (did you mean --" : "", close != NULL ? close : "", close != NULL ? "?)" : "");
    }
    cleanup_free char *origin = xasprintf("--%s", spec->name);
    if (negated && equals != NULL) {
        return error_set(err, ERROR_INVALID, "--no-%s takes no value", spec->name);
    }
    if (!takes_value(spec)) {
        return set_value(spec, origin, equals != NULL ? equals + 1 : negated ? "false" : "true", err);
    }
    if (equals != NULL) {
        return set_value(spec, origin, equals + 1, err);
    }
    if (*at + 1 >= argc) {
        return error_set(err, ERROR_INVALID, "%s: a value is missing", origin);
    }
    (*at)++;
    return set_value(spec, origin, argv[*at], err);
}

static const struct option_spec *find_short(const struct option_spec *table, const char *argument) {
    for (const struct option_spec *spec = table; argument[0] == '-' && argument[1] != '\0' && spec->name != NULL; spec++) {
        if (spec->short_name == argument[1] && (takes_value(spec) || argument[2] == '\0')) {
            return spec;
        }
    }
    return NULL;
}

static int parse_short(const struct option_spec *spec, char **argv, int argc, int *at, struct error *err) {
    cleanup_free char *origin = xasprintf("-%c", spec->short_name);
    const char *rest = argv[*at] + 2;
    if (!takes_value(spec)) {
        return set_value(spec, origin, "true", err);
    }
    if (*rest != '\0') {
        return set_value(spec, origin, *rest == '=' ? rest + 1 : rest, err);
    }
    if (*at + 1 >= argc) {
        return error_set(err, ERROR_INVALID, "%s: a value is missing", origin);
    }
    (*at)++;
    return set_value(spec, origin, argv[*at], err);
}

static int apply_environment(const struct option_spec *table, struct error *err) {
    for (const struct option_spec *spec = table; spec->name != NULL; spec++) {
        const char *value = spec->env != NULL ? getenv(spec->env) : NULL;
        if (value != NULL && *value != '\0' && set_value(spec, spec->env, value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int options_parse(const struct option_spec *table, int argc, char **argv, bool *ret_help, struct error *err) {
    *ret_help = false;
    if (apply_environment(table, err) < 0) {
        return -1;
    }
    int positional = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            for (i++; i < argc; i++) {
                argv[++positional] = argv[i];
            }
            break;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *ret_help = true;
            return 0;
        }
        const struct option_spec *spec = find_short(table, argv[i]);
        if (spec != NULL) {
            if (parse_short(spec, argv, argc, &i, err) < 0) {
                return -1;
            }
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[++positional] = argv[i];
            continue;
        }
        if (parse_one(table, argv, argc, &i, err) < 0) {
            return -1;
        }
    }
    return positional;
}

void options_print_help(const struct option_spec *table, const char *usage, const char *description, FILE *out) {
    (void)fprintf(out, "Usage: %s\n\n%s\n", usage, description);
    bool first = true;
    for (const struct option_spec *spec = table; spec->name != NULL; spec++) {
        if (spec->help == NULL) {
            continue;
        }
        if (first) {
            (void)fprintf(out, "\nOptions:\n");
            first = false;
        }
        char alias[] = {'-', spec->short_name, ',', ' ', '\0'};
        cleanup_free char *left = xasprintf("%s--%s%s%s", spec->short_name != 0 ? alias : "", spec->name,
                                            spec->value_name != NULL ? " " : "", spec->value_name != NULL ? spec->value_name : "");
        (void)fprintf(out, "  %-34s %s%s%s%s\n", left, spec->help, spec->env != NULL ? " [" : "",
                      spec->env != NULL ? spec->env : "", spec->env != NULL ? "]" : "");
    }
}
