#include "cluster/node/node_object.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cluster/node/net.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define HEARTBEAT_MS 10000
#define RETRY_MS 1000

struct node_object {
    struct node_object_options options;
    char started_text[CLOCK_RFC3339_BYTES];
    struct timer timer;
    struct kube_call *call;
    bool was_reported; /* the last failure was logged; once is enough */
    bool has_told_net; /* the object's spec has our net: an earlier life may have had another */
};

/* The value of NAME= in /etc/os-release, of the caller's. */
static char *os_image(void) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read("/etc/os-release", 65536, &text, NULL) < 0) {
        return xstrdup("Linux");
    }
    const char *at = strstr(buffer_text(&text), "PRETTY_NAME=\"");
    if (at == NULL) {
        return xstrdup("Linux");
    }
    at += strlen("PRETTY_NAME=\"");
    return xstrndup(at, strcspn(at, "\"\n"));
}

static char *first_line(const char *path) {
    char line[128] = "";
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(line, sizeof(line), file) == NULL) {
            line[0] = '\0';
        }
        (void)fclose(file);
    }
    return xstrndup(line, strcspn(line, "\n"));
}

static json_t *node_info(void) {
    struct utsname machine;
    (void)uname(&machine);
    const char *architecture = strcmp(machine.machine, "x86_64") == 0    ? "amd64"
                               : strcmp(machine.machine, "aarch64") == 0 ? "arm64"
                                                                         : machine.machine;
    cleanup_free char *image = os_image();
    cleanup_free char *machine_id = first_line("/etc/machine-id");
    cleanup_free char *boot_id = first_line("/proc/sys/kernel/random/boot_id");
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "architecture", architecture, "operatingSystem", "linux",
                     "kernelVersion", machine.release, "osImage", image, "machineID", machine_id, "systemUUID", machine_id,
                     "bootID", boot_id, "containerRuntimeVersion", "process://1", "kubeletVersion", "v1.37.0-davit",
                     "kubeProxyVersion", "");
}

static json_t *resources(const struct node_object *node) {
    cleanup_free char *cpus = xasprintf("%d", node->options.cpus);
    cleanup_free char *memory = xasprintf("%lldKi", (long long)sysconf(_SC_PHYS_PAGES) * (sysconf(_SC_PAGESIZE) / 1024));
    cleanup_free char *pods = xasprintf("%d", NET_HOST_LAST - NET_HOST_FIRST + 1);
    return json_pack("{s:s, s:s, s:s}", "cpu", cpus, "memory", memory, "pods", pods);
}

static json_t *node_status(const struct node_object *node) {
    char now_text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ms(), now_text);
    json_t *ready =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "type", "Ready", "status", "True", "reason", "KubeletReady", "message",
                  "davit node is running", "lastHeartbeatTime", now_text, "lastTransitionTime", node->started_text);
    return json_pack("{s:[o], s:[{s:s, s:s}, {s:s, s:s}], s:o, s:o, s:o, s:{s:{s:i}}}", "conditions", ready, "addresses", "type",
                     "InternalIP", "address", "127.0.0.1", "type", "Hostname", "address", node->options.name, "capacity",
                     resources(node), "allocatable", resources(node), "nodeInfo", node_info(), "daemonEndpoints", "kubeletEndpoint",
                     "Port", node->options.logs_port);
}

static void on_answered(struct node_object *node, const struct error *err, int64_t delay_ms) {
    node->call = NULL;
    if (err != NULL && !node->was_reported) {
        log_warn("%s", err->message);
    }
    node->was_reported = err != NULL;
    timer_set(&node->timer, err != NULL ? RETRY_MS : delay_ms);
}

static void on_created(void *arg, json_t *object, const struct error *err) {
    struct node_object *node = arg;
    (void)object;
    bool is_fine = err == NULL || err->code == ERROR_EXISTS || err->code == ERROR_CONFLICT;
    on_answered(node, is_fine ? NULL : err, 0);
}

static void create(struct node_object *node) {
    cleanup_json json_t *object =
        json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:s}}, s:{s:s, s:[s]}}", "apiVersion", "v1", "kind", "Node", "metadata", "name",
                  node->options.name, "labels", "kubernetes.io/hostname", node->options.name, "kubernetes.io/os", "linux", "spec",
                  "podCIDR", node->options.pod_cidr, "podCIDRs", node->options.pod_cidr);
    node->call = kube_start(
        node->options.client,
        &(struct kube_request){.verb = KUBE_CREATE, .resource = &kube_nodes, .body = object, .on_done = on_created, .arg = node});
}

static void on_patched(void *arg, json_t *object, const struct error *err) {
    struct node_object *node = arg;
    (void)object;
    node->call = NULL;
    if (err != NULL && err->code == ERROR_NOT_FOUND) {
        create(node);
    } else {
        on_answered(node, err, HEARTBEAT_MS);
    }
}

static void on_net_told(void *arg, json_t *object, const struct error *err) {
    struct node_object *node = arg;
    (void)object;
    node->call = NULL;
    if (err != NULL && err->code == ERROR_NOT_FOUND) {
        create(node);
        return;
    }
    node->has_told_net = err == NULL;
    on_answered(node, err, 0);
}

static void tell_net(struct node_object *node) {
    cleanup_json json_t *body =
        json_pack("{s:{s:s, s:[s]}}", "spec", "podCIDR", node->options.pod_cidr, "podCIDRs", node->options.pod_cidr);
    node->call = kube_start(node->options.client, &(struct kube_request){.verb = KUBE_PATCH_MERGE,
                                                                         .resource = &kube_nodes,
                                                                         .name = node->options.name,
                                                                         .body = body,
                                                                         .on_done = on_net_told,
                                                                         .arg = node});
}

static void beat(struct node_object *node) {
    cleanup_json json_t *body = json_pack("{s:o}", "status", node_status(node));
    node->call = kube_start(node->options.client, &(struct kube_request){.verb = KUBE_PATCH_MERGE,
                                                                         .resource = &kube_nodes,
                                                                         .name = node->options.name,
                                                                         .subresource = "status",
                                                                         .body = body,
                                                                         .on_done = on_patched,
                                                                         .arg = node});
}

static void on_timer(void *arg) {
    struct node_object *node = arg;
    if (node->has_told_net) {
        beat(node);
    } else {
        tell_net(node);
    }
}

struct node_object *node_object_new(const struct node_object_options *options) {
    struct node_object *node = xcalloc(1, sizeof(*node));
    node->options = *options;
    clock_format_rfc3339(clock_wall_ms(), node->started_text);
    timer_init(&node->timer, kube_client_loop(options->client), on_timer, node);
    tell_net(node);
    return node;
}

void node_object_free(struct node_object *node) {
    if (node == NULL) {
        return;
    }
    kube_call_cancel(node->call);
    timer_release(&node->timer);
    free(node);
}
