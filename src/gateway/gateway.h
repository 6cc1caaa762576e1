/* The gateway's process: a Kubernetes API to read routes from, workers that serve, and an orderly end. Its own loop reads routes
 * and hears signals; the workers (gateway/worker_threads.h) take the requests. */
#ifndef DAVIT_GATEWAY_GATEWAY_H
#define DAVIT_GATEWAY_GATEWAY_H

#include "base/error.h"

#include <stdint.h>

struct gateway_options {
    const char *kubeconfig; /* NULL = as kube_config_load finds one */
    const char *namespace;  /* NULL = all */
    const char *address;    /* numeric */
    int port;               /* 0 = a free one */
    const char *port_file;  /* NULL = none; gets the port once it serves */
    int workers;            /* 1 to WORKER_THREADS_MAX */
    int64_t drain_ms;       /* after SIGTERM: how long requests under way may go on */
};

/* Runs until SIGTERM or SIGINT: /readyz says no, it goes on accepting for one second, then finishes what runs. A second signal ends
 * it at once. */
int gateway_run(const struct gateway_options *options, struct error *err) DAVIT_MUST_USE;

#endif
