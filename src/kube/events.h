/* Kubernetes Events (core/v1), as client-go's recorder writes them: the same event again within ten minutes raises its count by a
 * patch instead of making a new object. Writes are best effort, at most 1000 wait, older ones are dropped with a log line. */
#ifndef DAVIT_KUBE_EVENTS_H
#define DAVIT_KUBE_EVENTS_H

#include "kube/client.h"

struct event_recorder;

struct event_recorder *event_recorder_new(struct kube_client *client, const char *component);
void event_recorder_free(struct event_recorder *recorder);
/* type: "Normal" or "Warning"; reason: CamelCase word; about: the object (apiVersion and kind set). The message is cut at 1024
 * bytes. */
void event_record(struct event_recorder *recorder, const json_t *about, const char *type, const char *reason, const char *format,
                  ...) DAVIT_PRINTF(5, 6);

#endif
