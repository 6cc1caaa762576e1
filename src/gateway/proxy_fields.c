#include "gateway/proxy_fields.h"

#include <string.h>
#include <sys/random.h>

static bool is_hop_by_hop(const char *name) {
    static const char *const names[] = {
        "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE",   "Trailer",
        "Upgrade",    "Host",       "Content-Length",     "Transfer-Encoding",   "Expect",           "Date",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a comma-separated list of tokens holds the name. */
static bool list_holds(const char *list, const char *name) {
    size_t name_len = strlen(name);
    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, " \t,");
        if (len == name_len && strncasecmp(list, name, len) == 0) {
            return true;
        }
        list += len;
    }
    return false;
}

bool proxy_field_passes(const struct http_fields *all, const char *name) {
    if (is_hop_by_hop(name)) {
        return false;
    }
    for (size_t i = 0; i < all->count; i++) {
        if (strcasecmp(all->items[i].name, "Connection") == 0 && list_holds(all->items[i].value, name)) {
            return false;
        }
    }
    return true;
}

static void make_request_id(char out[37]) {
    unsigned char bytes[16] = {0};
    ssize_t got = getrandom(bytes, sizeof(bytes), 0);
    (void)got;                                            /* 16 bytes are never cut short (getrandom(2)) */
    bytes[6] = (unsigned char)((bytes[6] & 0x0F) | 0x40); /* RFC 9562: version 4 */
    bytes[8] = (unsigned char)((bytes[8] & 0x3F) | 0x80);
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            out[used++] = '-';
        }
        out[used++] = digits[bytes[i] >> 4];
        out[used++] = digits[bytes[i] & 15];
    }
    out[used] = '\0';
}

int proxy_fields_for_upstream(const struct http_fields *from_client, struct http_fields *ret_fields, struct error *err) {
    for (size_t i = 0; i < from_client->count; i++) {
        const struct http_field *field = &from_client->items[i];
        if (proxy_field_passes(from_client, field->name) && http_fields_add(ret_fields, field->name, field->value, err) < 0) {
            return -1;
        }
    }
    if (http_fields_get(from_client, REQUEST_ID_FIELD) != NULL) {
        return 0;
    }
    char id[37];
    make_request_id(id);
    return http_fields_add(ret_fields, REQUEST_ID_FIELD, id, err);
}
