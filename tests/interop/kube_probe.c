/* The Kubernetes client by itself, so that tests against a real API can look at it from outside. Prints what happens as JSON lines.
 *
 *   kube_probe watch KUBECONFIG pods|configmaps|secrets|modeladapters NAMESPACE NAME
 *   kube_probe campaign KUBECONFIG NAMESPACE LEASE IDENTITY DURATION_MS DEADLINE_MS RETRY_MS
 *
 * KUBECONFIG "": as without --kubeconfig. NAMESPACE or NAME "": all. A campaigner that leads writes its identity into the ConfigMap
 * of the Lease's name as fast as the API takes it. SIGTERM gives the lease back. */
#include "base/log.h"
#include "kube/lease.h"
#include "kube/watch_cache.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define PAUSE_MS 5 /* after a write that failed */

struct probe {
    struct loop *loop;
    struct kube_config config;
    struct transfers *transfers;
    struct kube_client *client;
    struct watch_cache *cache;
    struct lease *lease;
    const char *namespace;
    const char *name;
    struct timer timer;
    bool leads;
    int writes;
};

static void say(const char *what, const char *name, const char *more) {
    cleanup_json json_t *line = json_pack("{s:s, s:s, s:s}", "what", what, "name", name, "more", more);
    cleanup_free char *text = json_text(line);
    (void)printf("%s\n", text);
    (void)fflush(stdout);
}

/* ---- watch ---- */

static void on_change(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    static const char *const words[] = {"added", "modified", "deleted"};
    (void)arg;
    const json_t *object = new_object != NULL ? new_object : old_object;
    say(words[change], kube_name(object), kube_resource_version(object));
}

static void on_synced(void *arg) {
    struct probe *probe = arg;
    cleanup_free char *count = xasprintf("%zu", watch_cache_count(probe->cache));
    say("synced", "", count);
}

static int start_watch(struct probe *probe, char **arguments) {
    static const struct kube_resource *const resources[] = {&kube_pods, &kube_config_maps, &kube_secrets, &kube_model_adapters};
    const struct kube_resource *resource = NULL;
    for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
        if (strcmp(resources[i]->plural, arguments[0]) == 0) {
            resource = resources[i];
        }
    }
    if (resource == NULL) {
        return -1;
    }
    probe->cache = watch_cache_new(&(struct watch_cache_options){.client = probe->client,
                                                                 .resource = resource,
                                                                 .namespace = *arguments[1] != '\0' ? arguments[1] : NULL,
                                                                 .name = *arguments[2] != '\0' ? arguments[2] : NULL,
                                                                 .on_change = on_change,
                                                                 .on_synced = on_synced,
                                                                 .arg = probe});
    return 0;
}

/* ---- campaign ---- */

static void write_again(void *arg);

static void on_written(void *arg, json_t *object, const struct error *err) {
    struct probe *probe = arg;
    (void)object;
    if (err == NULL) {
        write_again(probe);
    } else {
        say("refused", "", err->message);
        timer_set(&probe->timer, PAUSE_MS);
    }
}

/* Asks nobody whether it still leads: the guard does, when the request goes out. */
static void write_again(void *arg) {
    struct probe *probe = arg;
    if (!probe->leads) {
        return;
    }
    cleanup_free char *count = xasprintf("%d", ++probe->writes);
    cleanup_json json_t *patch = json_pack("{s:{s:s, s:s}}", "data", "by", lease_identity(probe->lease), "count", count);
    kube_start(probe->client, &(struct kube_request){.verb = KUBE_PATCH_MERGE,
                                                     .resource = &kube_config_maps,
                                                     .namespace = probe->namespace,
                                                     .name = probe->name,
                                                     .body = patch,
                                                     .on_done = on_written,
                                                     .arg = probe});
}

static void on_started(void *arg) {
    struct probe *probe = arg;
    say("started", lease_identity(probe->lease), "");
    probe->leads = true;
    write_again(probe);
    write_again(probe); /* so that one always waits for the other's connection */
}

static void on_stopped(void *arg) {
    struct probe *probe = arg;
    probe->leads = false;
    say("stopped", lease_identity(probe->lease), lease_holder(probe->lease));
}

static int start_campaign(struct probe *probe, char **arguments) {
    struct error err;
    probe->namespace = arguments[0];
    probe->name = arguments[1];
    probe->lease = lease_new(&(struct lease_options){.client = probe->client,
                                                     .namespace = arguments[0],
                                                     .name = arguments[1],
                                                     .identity = arguments[2],
                                                     .duration_ms = strtol(arguments[3], NULL, 10),
                                                     .renew_deadline_ms = strtol(arguments[4], NULL, 10),
                                                     .retry_period_ms = strtol(arguments[5], NULL, 10),
                                                     .on_started = on_started,
                                                     .on_stopped = on_stopped,
                                                     .arg = probe},
                             &err);
    if (probe->lease == NULL) {
        say("error", "", err.message);
        return -1;
    }
    kube_client_guard_writes(probe->client, lease_may_send, probe->lease);
    return 0;
}

/* ---- life ---- */

static void on_released(void *arg) {
    struct probe *probe = arg;
    say("released", lease_identity(probe->lease), "");
    loop_stop(probe->loop);
}

static void on_signal(void *arg, int number) {
    struct probe *probe = arg;
    (void)number;
    probe->leads = false;
    if (probe->lease != NULL) {
        lease_release(probe->lease, on_released, probe);
    } else {
        loop_stop(probe->loop);
    }
}

static const struct mode {
    const char *name;
    int arguments;
    int (*start)(struct probe *probe, char **arguments);
} modes[] = {{"watch", 3, start_watch}, {"campaign", 6, start_campaign}};

int main(int argc, char **argv) {
    static const int signals[] = {SIGTERM, 0};
    struct probe probe = {0};
    struct error err;
    const struct mode *mode = NULL;
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(modes); i++) {
        mode = strcmp(modes[i].name, argv[1]) == 0 && argc == modes[i].arguments + 3 ? &modes[i] : mode;
    }
    if (mode == NULL) {
        (void)fprintf(stderr, "kube_probe: see the head of kube_probe.c\n");
        return 2;
    }
    (void)log_init("probe", "debug");
    if (kube_config_load(*argv[2] != '\0' ? argv[2] : NULL, &probe.config, &err) < 0) {
        say("error", "", err.message);
        return 1;
    }
    probe.loop = loop_new();
    probe.transfers = transfers_new(probe.loop);
    probe.client =
        kube_client_new(probe.loop, probe.transfers, &probe.config, mode->start == start_campaign ? argv[5] : "kube_probe", 1);
    timer_init(&probe.timer, probe.loop, write_again, &probe);
    loop_on_signals(probe.loop, signals, on_signal, &probe);
    int status = mode->start(&probe, argv + 3) < 0;
    if (status == 0) {
        loop_run(probe.loop);
    }
    lease_free(probe.lease);
    watch_cache_free(probe.cache);
    timer_release(&probe.timer);
    kube_client_free(probe.client);
    transfers_free(probe.transfers);
    loop_free(probe.loop);
    kube_config_release(&probe.config);
    return status;
}
