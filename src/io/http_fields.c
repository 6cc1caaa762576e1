#include "io/http.h"

#include <string.h>
#include <strings.h>

const char *http_fields_get(const struct http_fields *fields, const char *name) {
    for (size_t i = 0; i < fields->count; i++) {
        if (strcasecmp(fields->items[i].name, name) == 0) {
            return fields->items[i].value;
        }
    }
    return NULL;
}

int http_fields_add(struct http_fields *fields, const char *name, const char *value, struct error *err) {
    if (*name == '\0' || strpbrk(name, "\r\n") != NULL || strpbrk(value, "\r\n") != NULL) {
        return error_set(err, ERROR_INVALID, "header field \"%.64s\": holds a line break or has no name", name);
    }
    if (fields->count == HTTP_FIELDS_MAX) {
        return error_set(err, ERROR_LIMIT, "more than %d header fields", HTTP_FIELDS_MAX);
    }
    fields->items[fields->count++] = (struct http_field){.name = xstrdup(name), .value = xstrdup(value)};
    return 0;
}

void http_fields_remove(struct http_fields *fields, const char *name) {
    size_t kept = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (strcasecmp(fields->items[i].name, name) != 0) {
            fields->items[kept++] = fields->items[i];
        } else {
            free(fields->items[i].name);
            free(fields->items[i].value);
        }
    }
    fields->count = kept;
}

void http_fields_release(struct http_fields *fields) {
    for (size_t i = 0; i < fields->count; i++) {
        free(fields->items[i].name);
        free(fields->items[i].value);
    }
    fields->count = 0;
}

void http_head_release(struct http_head *head) {
    free(head->method);
    free(head->target);
    free(head->path);
    free(head->query);
    head->method = head->target = head->path = head->query = NULL;
    http_fields_release(&head->fields);
}

const char *http_reason_phrase(int status) {
    static const struct {
        int status;
        const char *phrase;
    } rows[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {424, "Failed Dependency"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].status == status) {
            return rows[i].phrase;
        }
    }
    return "Unknown";
}

static int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte = (char)(byte | 0x20);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Decodes as HTML forms do ('+' is a space). What is not a valid escape stays as it is, and so does "%00", which a C string cannot
 * hold. */
static char *decode_form(const char *text, size_t len) {
    char *out = xmalloc(len + 1);
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        int high = text[i] == '%' && i + 2 < len ? hex_digit(text[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
        if (low >= 0 && (high | low) != 0) {
            out[used++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[used++] = text[i] == '+' ? ' ' : text[i];
        }
    }
    out[used] = '\0';
    return out;
}

char *http_query_get(const char *query, const char *name) {
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        size_t name_len = strcspn(query, "=&");
        cleanup_free char *found = decode_form(query, name_len);
        if (strcmp(found, name) == 0) {
            return name_len < len ? decode_form(query + name_len + 1, len - name_len - 1) : xstrdup("");
        }
        query += len;
        query += *query == '&' ? 1 : 0;
    }
    return NULL;
}

void http_append_percent_encoded(struct buffer *out, const char *text) {
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text != '\0'; text++) {
        if (strchr(unreserved, *text) != NULL) {
            buffer_append_char(out, *text);
        } else {
            buffer_printf(out, "%%%02X", (unsigned char)*text);
        }
    }
}
