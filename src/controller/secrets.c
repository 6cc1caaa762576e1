#include "controller/secrets.h"

#include "base/clock.h"
#include "base/map.h"
#include "kube/base64.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#define NOT_ASKED (INT64_MIN / 2)
/* What is younger is not read again because it was refused: many may be refused with it at once. Less than passes before the first
 * other try. */
#define DOUBT_MS 500

struct secret;

struct secret_wait {
    LIST_ENTRY(secret_wait) link;
    void (*on_done)(void *arg, const json_t *values, const struct error *err);
    void *arg;
};

LIST_HEAD(secret_waits, secret_wait);

struct secret {
    struct secrets *secrets;
    char *key;
    json_t *values; /* NULL = not read yet, or refused */
    json_t *last;   /* ... before it was refused */
    struct error failure;
    int64_t asked_ms; /* when the API answered last */
    bool is_doubted;  /* what it holds was refused since then */
    struct kube_call *call;
    struct timer timer; /* tells those who wait for what is kept already */
    struct secret_waits waits;
};

struct secrets {
    struct kube_client *kube;
    struct map all; /* "namespace/name" -> struct secret, oldest first */
};

static void free_secret(struct secret *secret) {
    map_remove(&secret->secrets->all, secret->key);
    if (secret->call != NULL) {
        kube_call_cancel(secret->call);
    }
    while (!LIST_EMPTY(&secret->waits)) {
        struct secret_wait *wait = LIST_FIRST(&secret->waits);
        LIST_REMOVE(wait, link);
        free(wait);
    }
    timer_release(&secret->timer);
    json_decref(secret->values);
    json_decref(secret->last);
    free(secret->key);
    free(secret);
}

static struct secret *find(const struct secrets *secrets, const char *namespace, const char *name) {
    cleanup_free char *key = xasprintf("%s/%s", namespace, name);
    return map_get(&secrets->all, key);
}

static bool is_fresh(const struct secret *secret) {
    return clock_now_ms() - secret->asked_ms < (secret->is_doubted ? DOUBT_MS : SECRETS_KEPT_MS);
}

static bool is_kept(const struct secret *secret) {
    return secret != NULL && secret->values != NULL && is_fresh(secret);
}

/* What is not text cannot be carried in JSON, nor in a header. */
static json_t *read_values(const json_t *object) {
    json_t *values = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_at(object, "data"), key, value) {
        cleanup_buffer struct buffer decoded = BUFFER_INIT;
        if (json_is_string(value) && base64_decode(json_string_value(value), &decoded, NULL) == 0 &&
            memchr(buffer_text(&decoded), '\0', decoded.len) == NULL) {
            json_t *text = json_stringn(buffer_text(&decoded), decoded.len);
            if (text != NULL) {
                json_object_set_new(values, key, text);
            }
        }
    }
    return values;
}

/* Those who wait are taken off first: what they do may bring new ones, or make room of this secret. */
static void tell(struct secret *secret) {
    cleanup_json json_t *values = json_incref(secret->values);
    struct error failure = secret->failure;
    struct secret_waits told = LIST_HEAD_INITIALIZER(told);
    struct secret_wait *wait = NULL;
    while ((wait = LIST_FIRST(&secret->waits)) != NULL) {
        LIST_REMOVE(wait, link);
        LIST_INSERT_HEAD(&told, wait, link);
    }
    while ((wait = LIST_FIRST(&told)) != NULL) {
        void (*on_done)(void *, const json_t *, const struct error *) = wait->on_done;
        void *arg = wait->arg;
        LIST_REMOVE(wait, link);
        free(wait);
        on_done(arg, values, values == NULL ? &failure : NULL);
    }
}

static void on_kept(void *arg) {
    struct secret *secret = arg;
    if (secret->call == NULL) {
        tell(secret);
    }
}

static void on_read(void *arg, json_t *object, const struct error *err) {
    struct secret *secret = arg;
    secret->call = NULL;
    if (secret->values != NULL) {
        json_decref(secret->last);
        secret->last = take_pointer(secret->values);
    }
    if (err != NULL) {
        secret->failure = *err;
    } else {
        secret->values = read_values(object);
        json_decref(take_pointer(secret->last));
    }
    secret->asked_ms = clock_now_ms();
    secret->is_doubted = false;
    tell(secret);
}

/* One that nobody waits for makes room. */
static void make_room(struct secrets *secrets) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; secrets->all.count >= SECRETS_MAX && (entry = map_next(&secrets->all, &at)) != NULL;) {
        struct secret *secret = entry->value;
        if (LIST_EMPTY(&secret->waits)) {
            free_secret(secret);
        }
    }
}

static struct secret *make(struct secrets *secrets, const char *namespace, const char *name) {
    make_room(secrets);
    struct secret *secret = xcalloc(1, sizeof(*secret));
    *secret = (struct secret){.secrets = secrets, .key = xasprintf("%s/%s", namespace, name), .asked_ms = NOT_ASKED};
    LIST_INIT(&secret->waits);
    timer_init(&secret->timer, kube_client_loop(secrets->kube), on_kept, secret);
    map_set(&secrets->all, secret->key, secret);
    return secret;
}

struct secret_wait *secrets_fetch(struct secrets *secrets, const char *namespace, const char *name,
                                  void (*on_done)(void *arg, const json_t *values, const struct error *err), void *arg) {
    struct secret *secret = find(secrets, namespace, name);
    if (secret == NULL) {
        secret = make(secrets, namespace, name);
    }
    struct secret_wait *wait = xcalloc(1, sizeof(*wait));
    *wait = (struct secret_wait){.on_done = on_done, .arg = arg};
    LIST_INSERT_HEAD(&secret->waits, wait, link);
    if (is_kept(secret)) {
        timer_set(&secret->timer, 0);
    } else if (secret->call == NULL) {
        struct kube_request request = {
            .verb = KUBE_GET, .resource = &kube_secrets, .namespace = namespace, .name = name, .on_done = on_read, .arg = secret};
        secret->call = kube_start(secrets->kube, &request);
    }
    return wait;
}

void secrets_cancel(struct secret_wait *wait) {
    LIST_REMOVE(wait, link);
    free(wait);
}

const json_t *secrets_peek(struct secrets *secrets, const char *namespace, const char *name) {
    struct secret *secret = find(secrets, namespace, name);
    return is_kept(secret) ? secret->values : NULL;
}

const json_t *secrets_peek_last(struct secrets *secrets, const char *namespace, const char *name) {
    struct secret *secret = find(secrets, namespace, name);
    return secret == NULL ? NULL : secret->values != NULL ? secret->values : secret->last;
}

bool secrets_was_asked(struct secrets *secrets, const char *namespace, const char *name) {
    struct secret *secret = find(secrets, namespace, name);
    return secret != NULL && is_fresh(secret);
}

void secrets_forget(struct secrets *secrets, const char *namespace, const char *name) {
    struct secret *secret = find(secrets, namespace, name);
    if (secret != NULL) {
        secret->is_doubted = true;
    }
}

struct secrets *secrets_new(struct kube_client *kube) {
    struct secrets *secrets = xcalloc(1, sizeof(*secrets));
    *secrets = (struct secrets){.kube = kube, .all = MAP_INIT};
    return secrets;
}

void secrets_free(struct secrets *secrets) {
    if (secrets == NULL) {
        return;
    }
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&secrets->all, &at)) != NULL;) {
        free_secret(entry->value);
    }
    map_release(&secrets->all);
    free(secrets);
}
