#include "artifact/s3/aws_profile.h"

#include "base/file.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <string.h>

/* ---- text ---- */

struct reading {
    struct aws_profile *profile;
    bool is_config;
    int line;
    char *section; /* NULL = of no concern */
    char *parent;  /* the key without a value before what is indented; NULL = none */
};

static char *trimmed(const char *text, size_t len) {
    while (len > 0 && isspace((unsigned char)*text)) {
        text++;
        len--;
    }
    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        len--;
    }
    return xstrndup(text, len);
}

/* "[profile dev]" is "dev", "[services dev]" is "services dev"; other kinds of sections are of no concern. */
static int open_section(struct reading *reading, const char *line, struct error *err) {
    const char *end = strchr(line, ']');
    if (end == NULL) {
        return error_set(err, ERROR_INVALID, "line %d: expected [section]", reading->line);
    }
    cleanup_free char *name = trimmed(line + 1, (size_t)(end - line - 1));
    free(reading->section);
    free(reading->parent);
    reading->section = reading->parent = NULL;
    bool is_profile = strncmp(name, "profile", 7) == 0 && isspace((unsigned char)name[7]);
    bool is_services = strncmp(name, "services ", 9) == 0;
    if (!reading->is_config || strcmp(name, "default") == 0 || is_services) {
        reading->section = take_pointer(name);
    } else if (is_profile) {
        reading->section = trimmed(name + 8, strlen(name + 8));
    }
    if (reading->section != NULL && strcmp(reading->section, reading->profile->name) == 0) {
        reading->profile->is_there = true;
    }
    return 0;
}

/* A comment after a value begins with a space. */
static size_t value_length(const char *value) {
    for (const char *at = value; *at != '\0'; at++) {
        if (isspace((unsigned char)*at) && (at[1] == '#' || at[1] == ';')) {
            return (size_t)(at - value);
        }
    }
    return strlen(value);
}

static int add_setting(struct reading *reading, char *key, char *value, struct error *err) {
    struct aws_profile *profile = reading->profile;
    if (profile->count == AWS_SETTINGS_MAX) {
        free(key);
        free(value);
        return error_set(err, ERROR_LIMIT, "line %d: more than %d settings", reading->line, AWS_SETTINGS_MAX);
    }
    if ((profile->count & (profile->count - 1)) == 0) {
        profile->settings = xrealloc(profile->settings, (profile->count > 0 ? 2 * profile->count : 1) * sizeof(*profile->settings));
    }
    profile->settings[profile->count++] = (struct aws_setting){.section = xstrdup(reading->section), .key = key, .value = value};
    return 0;
}

static int read_setting(struct reading *reading, const char *line, struct error *err) {
    const char *equals = strchr(line, '=');
    bool is_indented = isspace((unsigned char)line[0]);
    if (is_indented && (reading->parent == NULL || equals == NULL)) {
        return 0; /* the rest of a value in several lines: none that is read here */
    }
    if (equals == NULL) {
        return error_set(err, ERROR_INVALID, "line %d: expected key = value", reading->line);
    }
    cleanup_free char *key = trimmed(line, (size_t)(equals - line));
    for (char *at = key; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    char *value = trimmed(equals + 1, value_length(equals + 1));
    if (is_indented) {
        return add_setting(reading, xasprintf("%s.%s", reading->parent, key), value, err);
    }
    free(reading->parent);
    reading->parent = value[0] == '\0' ? xstrdup(key) : NULL;
    return add_setting(reading, take_pointer(key), value, err);
}

static int read_line(struct reading *reading, const char *line, struct error *err) {
    const char *first = line + strspn(line, " \t\r");
    if (*first == '\0' || *first == '#' || *first == ';') {
        return 0;
    }
    if (line[0] == '[') {
        return open_section(reading, line, err);
    }
    return reading->section != NULL ? read_setting(reading, line, err) : 0;
}

int aws_profile_read(struct aws_profile *profile, const char *text, size_t len, bool is_config, struct error *err) {
    struct reading reading = {.profile = profile, .is_config = is_config};
    const char *end = text + len;
    int result = 0;
    while (result == 0 && text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t line_len = newline != NULL ? (size_t)(newline - text) : (size_t)(end - text);
        cleanup_free char *line = xstrndup(text, line_len);
        reading.line++;
        result = read_line(&reading, line, err);
        OPENSSL_cleanse(line, strlen(line));
        text += line_len + 1;
    }
    free(reading.section);
    free(reading.parent);
    return result;
}

/* ---- files ---- */

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static int read_file(struct aws_profile *profile, const char *variable, const char *usual, bool is_config, struct error *err) {
    const char *named = environment(variable);
    const char *home = environment("HOME");
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error failure = {0};
    if (named == NULL && home == NULL) {
        return 0;
    }
    cleanup_free char *path = named != NULL ? xstrdup(named) : xasprintf("%s/.aws/%s", home, usual);
    if (file_read(path, AWS_FILE_BYTES_MAX, &text, &failure) < 0) {
        /* One that may not be read may be what somebody meant, unless nobody named it. */
        bool is_none = failure.code == ERROR_NOT_FOUND || (named == NULL && failure.code == ERROR_DENIED);
        if (!is_none && err != NULL) {
            *err = failure;
        }
        return is_none ? 0 : -1;
    }
    int result = aws_profile_read(profile, buffer_text(&text), text.len, is_config, err);
    OPENSSL_cleanse(text.data, text.len);
    return result < 0 ? error_wrap(err, "%s", path) : 0;
}

int aws_profile_load(struct aws_profile *ret, struct error *err) {
    const char *name = environment("AWS_PROFILE");
    name = name != NULL ? name : environment("AWS_DEFAULT_PROFILE");
    struct aws_profile profile = {.name = xstrdup(name != NULL ? name : "default"), .is_named = name != NULL};
    if (read_file(&profile, "AWS_SHARED_CREDENTIALS_FILE", "credentials", false, err) < 0 ||
        read_file(&profile, "AWS_CONFIG_FILE", "config", true, err) < 0) {
        aws_profile_release(&profile);
        return -1;
    }
    *ret = profile;
    return 0;
}

void aws_profile_release(struct aws_profile *profile) {
    for (size_t i = 0; i < profile->count; i++) {
        OPENSSL_cleanse(profile->settings[i].value, strlen(profile->settings[i].value));
        free(profile->settings[i].section);
        free(profile->settings[i].key);
        free(profile->settings[i].value);
    }
    free(profile->settings);
    free(profile->name);
    *profile = (struct aws_profile){0};
}

const char *aws_profile_get_of(const struct aws_profile *profile, const char *section, const char *key) {
    for (size_t i = 0; i < profile->count; i++) {
        const struct aws_setting *setting = &profile->settings[i];
        if (setting->value[0] != '\0' && strcmp(setting->section, section) == 0 && strcmp(setting->key, key) == 0) {
            return setting->value;
        }
    }
    return NULL;
}

const char *aws_profile_get(const struct aws_profile *profile, const char *key) {
    return aws_profile_get_of(profile, profile->name, key);
}
