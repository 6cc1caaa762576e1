#include "engine/api/lora_resolver.h"

#include "base/map.h"

#include <ctype.h>
#include <string.h>

#define NAME_PARTS_MAX 4

struct lora_lookup {
    struct lora_resolver *resolver;
    char *name;
    struct lora_waiter *first;
};

struct miss {
    char *name; /* NULL = free */
    int64_t until_ms;
    struct error err;
};

struct lora_resolver {
    struct lora_resolver_options options;
    char *base;         /* without slashes at its end, but for "hf://" and "/" */
    struct map lookups; /* name -> struct lora_lookup */
    int waiters;
    struct map missed;                     /* name -> struct miss */
    struct miss misses[LOOKUP_MISSES_MAX]; /* a ring, so that they end in order of time */
    size_t next_miss;
};

/* ---- names ---- */

static bool is_part(const char *part, size_t len) {
    if (len == 0 || part[0] == '.' || part[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)part[i]) && strchr("._-", part[i]) == NULL) {
            return false;
        }
    }
    return true;
}

bool lora_resolver_is_name(const char *name) {
    if (strlen(name) > LOOKUP_NAME_BYTES_MAX) {
        return false;
    }
    for (int parts = 1; parts <= NAME_PARTS_MAX; parts++) {
        size_t len = strcspn(name, "/");
        if (!is_part(name, len)) {
            return false;
        }
        if (name[len] == '\0') {
            return true;
        }
        name += len + 1;
    }
    return false;
}

/* ---- what was not found ---- */

static void forget(struct lora_resolver *resolver, struct miss *miss) {
    if (miss->name != NULL) {
        (void)map_remove(&resolver->missed, miss->name);
        free(miss->name);
        miss->name = NULL;
    }
}

static void remember(struct lora_resolver *resolver, const char *name, const struct error *err) {
    struct miss *old = map_get(&resolver->missed, name);
    struct miss *miss = &resolver->misses[resolver->next_miss];
    if (old != NULL) {
        forget(resolver, old);
    }
    forget(resolver, miss);
    *miss = (struct miss){.name = xstrdup(name), .until_ms = resolver->options.now_ms() + LOOKUP_MISS_MS, .err = *err};
    (void)map_set(&resolver->missed, name, miss);
    resolver->next_miss = (resolver->next_miss + 1) % LOOKUP_MISSES_MAX;
}

static const struct miss *find_miss(struct lora_resolver *resolver, const char *name) {
    struct miss *miss = map_get(&resolver->missed, name);
    if (miss != NULL && resolver->options.now_ms() >= miss->until_ms) {
        forget(resolver, miss);
        return NULL;
    }
    return miss;
}

/* ---- lookups ---- */

static struct lora_lookup *lookup_new(struct lora_resolver *resolver, const char *name) {
    struct lora_lookup *lookup = xcalloc(1, sizeof(*lookup));
    lookup->resolver = resolver;
    lookup->name = xstrdup(name);
    (void)map_set(&resolver->lookups, name, lookup);
    return lookup;
}

static void lookup_free(struct lora_lookup *lookup) {
    free(lookup->name);
    free(lookup);
}

static void on_loaded(void *arg, const struct error *err) {
    struct lora_lookup *lookup = arg;
    struct lora_resolver *resolver = lookup->resolver;
    (void)map_remove(&resolver->lookups, lookup->name); /* whoever asks from now on begins anew */
    if (err != NULL && err->code == ERROR_EXISTS) {     /* somebody loaded it meanwhile */
        err = NULL;
    }
    if (err != NULL && err->code != ERROR_BUSY) {
        remember(resolver, lookup->name, err);
    }
    while (lookup->first != NULL) {
        struct lora_waiter *waiter = lookup->first;
        lora_resolver_leave(waiter);
        waiter->on_done(waiter->arg, err);
    }
    lookup_free(lookup);
}

/* The engine stops; nobody waits any more. */
static void on_dropped(void *arg) {
    struct lora_lookup *lookup = arg;
    (void)map_remove(&lookup->resolver->lookups, lookup->name);
    lookup_free(lookup);
}

static struct lora_lookup *start(struct lora_resolver *resolver, const char *name, struct error *err) {
    if (resolver->lookups.count >= LOOKUPS_MAX) {
        (void)error_set(err, ERROR_BUSY, "%d adapters are being looked up already", LOOKUPS_MAX);
        return NULL;
    }
    size_t len = strlen(resolver->base);
    bool has_slash = len > 0 && resolver->base[len - 1] == '/';
    cleanup_free char *path = xasprintf("%s%s%s", resolver->base, has_slash ? "" : "/", name);
    struct lora_lookup *lookup = lookup_new(resolver, name);
    struct adapter_job job = {
        .is_lookup = true, .name = name, .path = path, .on_done = on_loaded, .on_dropped = on_dropped, .arg = lookup};
    if (resolver->options.load(resolver->options.load_arg, &job, err) < 0) {
        (void)map_remove(&resolver->lookups, name);
        lookup_free(lookup);
        return NULL;
    }
    return lookup;
}

int lora_resolver_ask(struct lora_resolver *resolver, const char *name, struct lora_waiter *waiter, struct error *err) {
    if (!lora_resolver_is_name(name)) {
        return error_set(err, ERROR_NOT_FOUND, "\"%.100s\" is no name of an adapter", name);
    }
    const struct miss *miss = find_miss(resolver, name);
    if (miss != NULL) {
        return error_set(err, miss->err.code, "%s", miss->err.message);
    }
    if (resolver->waiters >= LOOKUP_WAITERS_MAX) {
        return error_set(err, ERROR_BUSY, "%d requests wait for adapters already", LOOKUP_WAITERS_MAX);
    }
    struct lora_lookup *lookup = map_get(&resolver->lookups, name);
    if (lookup == NULL) {
        lookup = start(resolver, name, err);
    }
    if (lookup == NULL) {
        return -1;
    }
    waiter->lookup = lookup;
    waiter->next = lookup->first;
    lookup->first = waiter;
    resolver->waiters++;
    return 0;
}

void lora_resolver_leave(struct lora_waiter *waiter) {
    if (waiter->lookup == NULL) {
        return;
    }
    struct lora_waiter **at = &waiter->lookup->first;
    while (*at != waiter) {
        at = &(*at)->next;
    }
    *at = waiter->next;
    waiter->lookup->resolver->waiters--;
    waiter->lookup = NULL;
    waiter->next = NULL;
}

struct lora_resolver *lora_resolver_new(const struct lora_resolver_options *options) {
    struct lora_resolver *resolver = xcalloc(1, sizeof(*resolver));
    resolver->options = *options;
    resolver->base = xstrdup(options->base);
    for (size_t len = strlen(resolver->base); len > 1 && resolver->base[len - 1] == '/'; len--) {
        if (len >= 3 && memcmp(resolver->base + len - 3, "://", 3) == 0) {
            break;
        }
        resolver->base[len - 1] = '\0';
    }
    return resolver;
}

void lora_resolver_free(struct lora_resolver *resolver) {
    if (resolver == NULL) {
        return;
    }
    for (size_t i = 0; i < LOOKUP_MISSES_MAX; i++) {
        forget(resolver, &resolver->misses[i]);
    }
    map_release(&resolver->missed);
    map_release(&resolver->lookups);
    free(resolver->base);
    free(resolver);
}
