#include "cli/artifact_args.h"

#include "base/file.h"

#include <ctype.h>
#include <string.h>

char *artifact_cache_path(const char *given, struct error *err) {
    const char *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (given != NULL && *given != '\0') {
        return xstrdup(given);
    }
    if (xdg != NULL && xdg[0] == '/') {
        return path_join(xdg, "davit");
    }
    if (home != NULL && home[0] == '/') {
        return path_join(home, ".cache/davit");
    }
    error_set(err, ERROR_INVALID, "where to keep artifacts? Neither --cache nor HOME is set");
    return NULL;
}

int artifact_parse_bytes(const char *text, uint64_t *ret_bytes, struct error *err) {
    static const struct {
        const char *name;
        double factor;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"K", 1e3},
                 {"KB", 1e3},
                 {"M", 1e6},
                 {"MB", 1e6},
                 {"G", 1e9},
                 {"GB", 1e9},
                 {"T", 1e12},
                 {"TB", 1e12},
                 {"Ki", 1024},
                 {"KiB", 1024},
                 {"Mi", 1048576.0},
                 {"MiB", 1048576.0},
                 {"Gi", 1073741824.0},
                 {"GiB", 1073741824.0},
                 {"Ti", 1099511627776.0},
                 {"TiB", 1099511627776.0}};
    char *end = NULL;
    double number = isdigit((unsigned char)text[0]) ? strtod(text, &end) : -1;
    for (size_t i = 0; i < ARRAY_LEN(units) && number >= 0; i++) {
        if (strcasecmp(end, units[i].name) == 0 && number * units[i].factor < 9e18) {
            *ret_bytes = (uint64_t)(number * units[i].factor);
            return 0;
        }
    }
    return error_set(err, ERROR_INVALID, "expected a size such as 20G, found \"%s\"", text);
}

void artifact_format_bytes(uint64_t bytes, char *out, size_t len) {
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    if (bytes < 1000) {
        (void)snprintf(out, len, "%llu B", (unsigned long long)bytes);
        return;
    }
    for (value /= 1000; value >= 999.95 && unit + 1 < ARRAY_LEN(units); value /= 1000) {
        unit++;
    }
    (void)snprintf(out, len, "%.1f %s", value, units[unit]);
}
