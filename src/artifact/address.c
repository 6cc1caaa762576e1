#include "artifact/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* All as IPv6; IPv4 as ::ffff:0:0/96. */
struct network {
    uint8_t bytes[16];
    unsigned bits;
};

static const char *const refused[] = {
    "169.254.0.0/16",     /* link-local: AWS, GCP, Azure, OpenStack, Oracle, DigitalOcean; ECS' and EKS' credentials */
    "100.100.100.200/32", /* Alibaba Cloud */
    "168.63.129.16/32",   /* Azure's wire server */
    "192.0.0.192/32",     /* Oracle Cloud, classic */
    "0.0.0.0/8",          /* "this network": Linux takes it for loopback */
    "224.0.0.0/3",        /* multicast, reserved, broadcast */
    "fe80::/10",          /* link-local */
    "fd00:ec2::/32",      /* AWS */
    "fd20:ce::/32",       /* GCP */
    "fd00:c1::/32",       /* Oracle Cloud */
    "fd00:42::/32",       /* Scaleway */
    "ff00::/8",           /* multicast */
};

static const char *const refused_names[] = {"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"};

static void from_ipv4(const void *bytes, uint8_t out[16]) {
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, bytes, 4);
}

static bool read_address(const char *text, uint8_t out[16], bool *ret_is_ipv4) {
    uint8_t ipv4[4];
    *ret_is_ipv4 = inet_pton(AF_INET, text, ipv4) == 1;
    if (*ret_is_ipv4) {
        from_ipv4(ipv4, out);
        return true;
    }
    return inet_pton(AF_INET6, text, out) == 1;
}

static bool read_network(const char *text, struct network *ret) {
    char address[64];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    bool is_ipv4 = false;
    if (len >= sizeof(address)) {
        return false;
    }
    memcpy(address, text, len);
    address[len] = '\0';
    if (!read_address(address, ret->bytes, &is_ipv4)) {
        return false;
    }
    unsigned width = is_ipv4 ? 32 : 128;
    unsigned long bits = width;
    if (slash != NULL) {
        char *end = NULL;
        bits = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > width) {
            return false;
        }
    }
    ret->bits = (unsigned)bits + 128 - width;
    return true;
}

static bool holds(const struct network *network, const uint8_t address[16]) {
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return memcmp(network->bytes, address, whole) == 0 && (rest == 0 || ((network->bytes[whole] ^ address[whole]) & mask) == 0);
}

static bool any_holds(const char *const *list, size_t count, const uint8_t address[16]) {
    struct network network;
    for (size_t i = 0; i < count; i++) {
        if (read_network(list[i], &network) && holds(&network, address)) {
            return true;
        }
    }
    return false;
}

static size_t length_of(const char *const *list) {
    size_t count = 0;
    while (list != NULL && list[count] != NULL) {
        count++;
    }
    return count;
}

static bool is_loopback(const uint8_t address[16]) {
    static const uint8_t loopback[16] = {[15] = 1};
    return memcmp(address, loopback, sizeof(loopback)) == 0;
}

/* IPv6 addresses that lead to IPv4 ones where they are unpacked again. Some may be of several forms at once: of each the IPv4
 * address is judged. */
static const struct form {
    uint8_t prefix[12];
    uint8_t prefix_len;
    uint8_t prefix_at;
    uint8_t parts[4]; /* where the four bytes are */
    uint8_t mask;     /* they are there inverted */
} forms[] = {
    {{0}, 12, 0, {12, 13, 14, 15}, 0},                      /* ::a.b.c.d */
    {{[8] = 0xff, [9] = 0xff}, 12, 0, {12, 13, 14, 15}, 0}, /* SIIT, ::ffff:0:a.b.c.d (RFC 2765) */
    {{0x00, 0x64, 0xff, 0x9b}, 12, 0, {12, 13, 14, 15}, 0}, /* NAT64 (RFC 6052); below of a network's own choice (RFC 8215) */
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 6, 0, {12, 13, 14, 15}, 0},
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 6, 0, {6, 7, 9, 10}, 0},
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 6, 0, {7, 9, 10, 11}, 0},
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 6, 0, {9, 10, 11, 12}, 0},
    {{0x20, 0x02}, 2, 0, {2, 3, 4, 5}, 0},                    /* 6to4 (RFC 3056) */
    {{0x20, 0x01, 0x00, 0x00}, 4, 0, {4, 5, 6, 7}, 0},        /* Teredo (RFC 4380): the server */
    {{0x20, 0x01, 0x00, 0x00}, 4, 0, {12, 13, 14, 15}, 0xff}, /* and the client */
    {{0x00, 0x00, 0x5e, 0xfe}, 4, 8, {12, 13, 14, 15}, 0},    /* ISATAP (RFC 5214) */
    {{0x02, 0x00, 0x5e, 0xfe}, 4, 8, {12, 13, 14, 15}, 0},
};

static bool unpack(const struct form *form, const uint8_t address[16], uint8_t out[16]) {
    uint8_t ipv4[4];
    if (memcmp(address + form->prefix_at, form->prefix, form->prefix_len) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(ipv4); i++) {
        ipv4[i] = address[form->parts[i]] ^ form->mask;
    }
    from_ipv4(ipv4, out);
    return true;
}

/* Where one prefix has several forms, all but one find zeros in an address that is of another. */
static bool is_of_another_form(const struct form *form, const uint8_t inner[16]) {
    return form->prefix_len == 6 && inner[12] == 0;
}

static bool is_fine(const uint8_t address[16], const char *const *allowed) {
    uint8_t inner[16];
    size_t allowed_count = length_of(allowed);
    if (is_loopback(address) || any_holds(allowed, allowed_count, address)) {
        return true;
    }
    if (any_holds(refused, ARRAY_LEN(refused), address)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (unpack(&forms[i], address, inner) && !is_of_another_form(&forms[i], inner) &&
            !any_holds(allowed, allowed_count, inner) && any_holds(refused, ARRAY_LEN(refused), inner)) {
            return false;
        }
    }
    return true;
}

bool address_is_allowed(const struct sockaddr *address, const char *const *allowed) {
    uint8_t bytes[16];
    if (address->sa_family == AF_INET) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, address, sizeof(ipv4));
        from_ipv4(&ipv4.sin_addr, bytes);
        return is_fine(bytes, allowed);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 ipv6;
        memcpy(&ipv6, address, sizeof(ipv6));
        memcpy(bytes, &ipv6.sin6_addr, sizeof(bytes));
        return is_fine(bytes, allowed);
    }
    return false;
}

bool address_host_is_allowed(const char *host, const char *const *allowed) {
    uint8_t bytes[16];
    bool is_ipv4 = false;
    size_t len = strlen(host);
    len -= len > 0 && host[len - 1] == '.';
    cleanup_free char *name = xstrndup(host, strcspn(host, "%") < len ? strcspn(host, "%") : len); /* no IPv6 zone */
    if (read_address(name, bytes, &is_ipv4)) {
        return is_fine(bytes, allowed);
    }
    for (size_t i = 0; i < ARRAY_LEN(refused_names); i++) {
        if (strcasecmp(name, refused_names[i]) == 0) {
            /* Whoever opened its address meant its name too. */
            (void)read_address("169.254.169.254", bytes, &is_ipv4);
            return is_fine(bytes, allowed);
        }
    }
    return true;
}

int address_check_list(const char *const *allowed, struct error *err) {
    struct network network;
    for (size_t i = 0; i < length_of(allowed); i++) {
        if (!read_network(allowed[i], &network)) {
            return error_set(err, ERROR_INVALID, "expected an address or a network such as 10.1.0.0/16, found \"%.64s\"",
                             allowed[i]);
        }
    }
    return 0;
}
