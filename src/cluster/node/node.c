#include "cluster/node/node.h"

#include "base/file.h"
#include "base/log.h"
#include "cluster/node/kubelet.h"
#include "cluster/node/log_server.h"
#include "cluster/node/node_object.h"
#include "cluster/node/workloads.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CALLS_MAX 16
#define EVENT_CALLS_MAX 4

struct node {
    char *folder; /* absolute */
    char *name;
    int lock_fd;
    int cpus;
    struct kube_config config;
    bool has_config;
    struct net net;
    struct loop *loop;
    struct transfers *api_transfers;
    struct transfers *probe_transfers;
    struct kube_client *client;
    struct kube_client *event_client; /* its own, so that a burst of events delays nothing else */
    struct event_recorder *controller_events;
    struct event_recorder *scheduler_events;
    struct event_recorder *kubelet_events;
    struct watch_cache *deployments;
    struct watch_cache *replica_sets;
    struct watch_cache *pods;
    struct workloads *workloads;
    struct kubelet *kubelet;
    struct log_server *log_server;
    struct node_object *object;
};

/* ---- changes ---- */

static void on_deployment(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct node *node = arg;
    (void)change;
    workloads_on_deployment(node->workloads, old_object, new_object);
}

static void on_replica_set(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct node *node = arg;
    (void)change;
    workloads_on_replica_set(node->workloads, old_object, new_object);
}

static void on_pod(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct node *node = arg;
    (void)change;
    kubelet_on_pod(node->kubelet, old_object, new_object);
    workloads_on_pod(node->workloads, old_object, new_object);
}

static void on_synced(void *arg) {
    struct node *node = arg;
    workloads_on_synced(node->workloads);
}

static void on_pods_synced(void *arg) {
    struct node *node = arg;
    kubelet_on_synced(node->kubelet);
    workloads_on_synced(node->workloads);
    log_info("synced, pods=%zu", watch_cache_count(node->pods));
}

static void on_signal(void *arg, int number) {
    struct node *node = arg;
    log_info("signal %d: ending; pods are left running", number);
    loop_stop(node->loop);
}

/* ---- set-up ---- */

static int set_up_folder(struct node *node, const struct node_options *options, struct error *err) {
    cleanup_free char *pods = path_join(options->folder, "pods");
    if (file_make_dirs(pods, 0700, err) < 0) {
        return -1;
    }
    node->folder = realpath(options->folder, NULL); /* records and marks name it, whatever folder we are started in next time */
    if (node->folder == NULL) {
        return error_set_errno(err, "%s", options->folder);
    }
    cleanup_free char *lock = path_join(node->folder, "node.lock");
    node->lock_fd = file_lock(lock, err);
    return node->lock_fd >= 0 ? 0 : error_wrap(err, "another davit node uses this state folder");
}

static char *lower_case(char *name) {
    for (char *at = name; *at != '\0'; at++) {
        *at = (char)(*at >= 'A' && *at <= 'Z' ? *at - 'A' + 'a' : *at);
    }
    return name;
}

static char *host_name(void) {
    char name[256] = "localhost";
    (void)gethostname(name, sizeof(name) - 1);
    return lower_case(xstrdup(name[0] != '\0' ? name : "localhost"));
}

static int count_cpus(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

static void start_caches(struct node *node) {
    struct watch_cache_options options = {.client = node->client, .on_synced = on_synced, .arg = node};
    options.resource = &kube_deployments;
    options.on_change = on_deployment;
    node->deployments = watch_cache_new(&options);
    options.resource = &kube_replicasets;
    options.on_change = on_replica_set;
    node->replica_sets = watch_cache_new(&options);
    options.resource = &kube_pods;
    options.on_change = on_pod;
    options.on_synced = on_pods_synced;
    node->pods = watch_cache_new(&options);
}

static void start_parts(struct node *node) {
    node->api_transfers = transfers_new(node->loop);
    node->probe_transfers = transfers_new(node->loop);
    node->client = kube_client_new(node->loop, node->api_transfers, &node->config, "davit-node", CALLS_MAX);
    node->event_client = kube_client_new(node->loop, node->api_transfers, &node->config, "davit-node", EVENT_CALLS_MAX);
    node->controller_events = event_recorder_new(node->event_client, "davit-workloads");
    node->scheduler_events = event_recorder_new(node->event_client, "davit-scheduler");
    node->kubelet_events = event_recorder_new(node->event_client, "davit-node");
    start_caches(node);
    node->workloads = workloads_new(&(struct workloads_options){.client = node->client,
                                                                .controller_events = node->controller_events,
                                                                .scheduler_events = node->scheduler_events,
                                                                .deployments = node->deployments,
                                                                .replica_sets = node->replica_sets,
                                                                .pods = node->pods,
                                                                .node_name = node->name});
    node->kubelet = kubelet_new(&(struct kubelet_options){.client = node->client,
                                                          .transfers = node->probe_transfers,
                                                          .events = node->kubelet_events,
                                                          .pods = node->pods,
                                                          .net = &node->net,
                                                          .folder = node->folder,
                                                          .node_name = node->name,
                                                          .cpus = node->cpus});
    log_server_set_kubelet(node->log_server, node->kubelet);
    node->object = node_object_new(&(struct node_object_options){.client = node->client,
                                                                 .name = node->name,
                                                                 .pod_cidr = node->net.cidr,
                                                                 .cpus = node->cpus,
                                                                 .logs_port = log_server_port(node->log_server)});
}

static int start(struct node *node, const struct node_options *options, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    node->name = options->name != NULL ? xstrdup(options->name) : host_name();
    node->cpus = count_cpus();
    if (set_up_folder(node, options, err) < 0 || net_take(node->folder, options->pod_cidr, &node->net, err) < 0 ||
        kube_config_load(options->kubeconfig, &node->config, err) < 0) {
        return -1;
    }
    node->has_config = true;
    node->loop = loop_new();
    loop_on_signals(node->loop, signals, on_signal, node);
    if (node->config.token == NULL) {
        return error_set(err, ERROR_INVALID,
                         "the kubeconfig has no token: the node shares one with the API server, which asks it for logs");
    }
    node->log_server = log_server_new(node->loop, node->config.token, err);
    if (node->log_server == NULL) {
        return -1;
    }
    start_parts(node);
    log_info("node \"%s\" pods=%s api=%s state=%s", node->name, node->net.cidr, node->config.server, node->folder);
    return 0;
}

static void release(struct node *node) {
    node_object_free(node->object);
    log_server_free(node->log_server);
    kubelet_free(node->kubelet);
    workloads_free(node->workloads);
    watch_cache_free(node->deployments);
    watch_cache_free(node->replica_sets);
    watch_cache_free(node->pods);
    event_recorder_free(node->controller_events);
    event_recorder_free(node->scheduler_events);
    event_recorder_free(node->kubelet_events);
    kube_client_free(node->client);
    kube_client_free(node->event_client);
    if (node->api_transfers != NULL) {
        transfers_free(node->api_transfers);
        transfers_free(node->probe_transfers);
    }
    if (node->loop != NULL) {
        loop_free(node->loop);
    }
    if (node->has_config) {
        kube_config_release(&node->config);
    }
    net_release(&node->net);
    if (node->lock_fd >= 0) {
        close(node->lock_fd);
    }
    free(node->folder);
    free(node->name);
}

int node_run(const struct node_options *options, struct error *err) {
    struct node node = {.lock_fd = -1, .net = {.lock_fd = -1}};
    int result = start(&node, options, err);
    if (result == 0) {
        loop_run(node.loop);
    }
    release(&node);
    return result;
}
