/* The sidecar's process: one loop, one service, an orderly end. */
#ifndef DAVIT_RUNTIME_RUNTIME_H
#define DAVIT_RUNTIME_RUNTIME_H

#include "runtime/service.h"

#include <stdint.h>

struct runtime_options {
    const char *address;            /* numeric */
    int port;                       /* 0 = a free one */
    const char *port_file;          /* NULL = none; gets the port once it serves */
    const char *engine;             /* "vllm", "sglang"; others are talked to as vLLM, with a warning */
    const char *token_file;         /* NULL = none; see runtime/access.h */
    struct service_options service; /* without dialect */
    int64_t drain_ms;
};

/* Runs until SIGTERM or SIGINT: /ready says no, it goes on accepting for one second, then finishes what runs. A second signal ends
 * it at once. */
int runtime_run(const struct runtime_options *options, struct error *err) DAVIT_MUST_USE;

#endif
