/* The door by which a test tells fake engines what to do wrong, and reads what they were asked. JSON over HTTP:
 *
 *   POST /_fake/faults   {"addresses": [...], "settings": {see settings.h}}
 *   POST /_fake/forget   {"addresses": [...], "names": [...]}
 *   POST /_fake/restart  {"addresses": [...]}
 *   GET  /_fake/engines  {"engines": {address: {"adapters": N, "requests": {call: N}, "refused": {...}, "cut": N, ...}}}
 *   GET  /_fake/adapters?address=A   {"adapters": {name: root}}
 *   GET  /_fake/totals   the counts of all engines, summed
 *   GET  /_fake/log?from=N           see event_log.h
 *
 * Without "addresses" all engines are meant, without "names" all adapters. 200 with an object, or 400 or 404 with {"error"}. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_CONTROL_H
#define DAVIT_TESTS_FAKE_ENGINE_CONTROL_H

#include "server.h"

struct fakes {
    struct map by_address; /* -> struct served */
    struct event_log log;
};

void control_on_request(void *arg, struct http_request *request); /* arg: struct fakes */

#endif
