#include "server.h"

#include "base/clock.h"

#include <string.h>

#define BODY_BYTES_MAX (1u << 20)
#define CONNECTIONS_MAX 256

enum state {
    STATE_HUNG,     /* until the fault is taken back */
    STATE_QUEUED,   /* a load that waits for others */
    STATE_DELAYED,  /* until its timer fires */
    STATE_WOKEN,    /* was hung or queued and is looked at again at the next turn of the loop */
    STATE_DRAINING, /* an unload that is done and answered when nothing asks for the adapter any more (SGLang) */
};

struct pending {
    TAILQ_ENTRY(pending) link;
    struct served *served;
    struct http_request *request; /* NULL: the client left */
    struct asked asked;
    enum state state;
    bool is_running_load;
    double began_s;
    struct timer timer;
    struct answer answer; /* STATE_DRAINING */
};

static double now_s(void) {
    return (double)clock_now_ns() / 1e9;
}

/* ---- the end of a request ---- */

static void dispatch(struct pending *pending);

static void on_woken(void *arg) {
    dispatch(arg);
}

/* Later, because whoever walks over the pending requests must not see them end. */
static void wake(struct pending *pending) {
    timer_release(&pending->timer);
    timer_init(&pending->timer, pending->served->loop, on_woken, pending);
    timer_set(&pending->timer, 0);
    pending->state = STATE_WOKEN;
}

static void wake_all(struct served *served, enum state state) {
    struct pending *pending = NULL;
    TAILQ_FOREACH(pending, &served->pending, link) {
        if (pending->state == state) {
            wake(pending);
        }
    }
}

static void forget(struct pending *pending) {
    TAILQ_REMOVE(&pending->served->pending, pending, link);
    timer_release(&pending->timer);
    answer_release(&pending->answer);
    asked_release(&pending->asked);
    free(pending);
}

static void note(struct pending *pending, int status) {
    struct served *served = pending->served;
    enum call call = pending->asked.call;
    served->counts.refused[call] += status >= 400;
    served->counts.cut += status == 0;
    if (call == CALL_LIST || call == CALL_OTHER) {
        return;
    }
    struct event_entry entry = {
        .began_s = pending->began_s, .ended_s = now_s(), .address = served->engine.address, .call = call, .status = status};
    snprintf(entry.name, sizeof(entry.name), "%s", pending->asked.name);
    snprintf(entry.path, sizeof(entry.path), "%s", call == CALL_LOAD && pending->asked.path != NULL ? pending->asked.path : "");
    event_log_add(served->log, &entry);
}

static void send(struct pending *pending) {
    struct answer *answer = &pending->answer;
    bool is_cut = pending->served->engine.settings.faults[pending->asked.call].close;
    note(pending, is_cut ? 0 : answer->status);
    if (pending->request == NULL) {
        return;
    }
    http_request_on_gone(pending->request, NULL, NULL);
    if (is_cut) {
        http_stream_abort(pending->request);
        return;
    }
    if (answer->retry_after_s > 0) {
        char seconds[24];
        snprintf(seconds, sizeof(seconds), "%lld", (long long)answer->retry_after_s);
        http_reply_field(pending->request, "Retry-After", seconds);
    }
    http_reply(pending->request, answer->status, answer->content_type, answer->body.data, answer->body.len);
}

static bool is_asked_for(const struct served *served, const char *name) {
    const struct pending *pending = NULL;
    TAILQ_FOREACH(pending, &served->pending, link) {
        if (pending->asked.call == CALL_GENERATE && strcmp(pending->asked.name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* For the metrics. */
static void note_asked_for(struct served *served) {
    struct buffer names = BUFFER_INIT;
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&served->engine.adapters, &at)) != NULL;) {
        if (is_asked_for(served, entry->key)) {
            buffer_printf(&names, "%s%s", names.len > 0 ? "," : "", entry->key);
        }
    }
    free(served->engine.asked_for);
    served->engine.asked_for = buffer_take(&names);
}

/* Unloads that waited for generations. */
static void send_drained(struct served *served) {
    struct pending *pending = NULL, *next = NULL;
    for (pending = TAILQ_FIRST(&served->pending); pending != NULL; pending = next) {
        next = TAILQ_NEXT(pending, link);
        if (pending->state == STATE_DRAINING && !is_asked_for(served, pending->asked.name)) {
            send(pending);
            forget(pending);
        }
    }
}

static void finish(struct pending *pending) {
    struct served *served = pending->served;
    struct engine *engine = &served->engine;
    const struct fault *fault = &engine->settings.faults[pending->asked.call];
    bool was_load = pending->is_running_load, was_generation = pending->asked.call == CALL_GENERATE;
    if (fault->status != 0 && pending->asked.refused == 0) {
        engine_refuse(engine, &pending->asked, (int)fault->status, fault->message, &pending->answer);
    } else {
        note_asked_for(served);
        engine_answer(engine, &pending->asked, clock_wall_ms() / 1000, &pending->answer);
    }
    if (engine->kind == KIND_SGLANG && pending->asked.call == CALL_UNLOAD && is_asked_for(served, pending->asked.name)) {
        pending->state = STATE_DRAINING;
        return;
    }
    send(pending);
    forget(pending);
    served->loads_running -= was_load;
    if (was_load) {
        wake_all(served, STATE_QUEUED); /* the first takes the turn, the others wait on */
    }
    if (was_generation) {
        send_drained(served);
    }
}

/* ---- the way there ---- */

static void on_timer(void *arg) {
    finish(arg);
}

static void run(struct pending *pending) {
    struct served *served = pending->served;
    int64_t delay_ms = served->engine.settings.faults[pending->asked.call].delay_ms;
    if (pending->asked.call == CALL_LOAD && pending->asked.refused == 0) {
        pending->is_running_load = true;
        served->loads_running++;
        if (served->loads_running > served->counts.loads_running_most) {
            served->counts.loads_running_most = served->loads_running;
        }
    }
    if (delay_ms == 0) {
        finish(pending);
        return;
    }
    pending->state = STATE_DELAYED;
    timer_release(&pending->timer);
    timer_init(&pending->timer, served->loop, on_timer, pending);
    timer_set(&pending->timer, delay_ms);
}

static void dispatch(struct pending *pending) {
    const struct served *served = pending->served;
    const struct settings *settings = &served->engine.settings;
    bool is_load = pending->asked.call == CALL_LOAD && pending->asked.refused == 0;
    if (settings->faults[pending->asked.call].hang) {
        pending->state = STATE_HUNG;
    } else if (is_load && settings->loads_at_once > 0 && served->loads_running >= settings->loads_at_once) {
        pending->state = STATE_QUEUED;
    } else {
        run(pending);
    }
}

/* What was begun goes on without the client, as it does in the engines. */
static void on_gone(void *arg) {
    struct pending *pending = arg;
    pending->request = NULL;
}

static void on_request(void *arg, struct http_request *http) {
    struct served_door *door = arg;
    struct served *served = door->served;
    const struct http_head *head = http_request_head(http);
    struct request request = {.door = door->door,
                              .method = head->method,
                              .path = head->path,
                              .authorization = http_fields_get(&head->fields, "Authorization"),
                              .content_type = http_fields_get(&head->fields, "Content-Type")};
    request.body = http_request_body(http, &request.body_len);
    struct pending *pending = xcalloc(1, sizeof(*pending));
    *pending = (struct pending){.served = served, .request = http, .began_s = now_s()};
    TAILQ_INSERT_TAIL(&served->pending, pending, link);
    http_request_on_gone(http, on_gone, pending);
    engine_read(&served->engine, &request, &pending->asked);
    served->counts.requests[pending->asked.call]++;
    dispatch(pending);
}

/* ---- life ---- */

static int open_doors(struct served *served, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(served->doors); i++) {
        struct served_door *door = &served->doors[i];
        int port = 0;
        if (door->port == 0 || door->http != NULL) {
            continue;
        }
        struct http_server_options options = {.loop = served->loop,
                                              .body_bytes_max = BODY_BYTES_MAX,
                                              .connections_max = CONNECTIONS_MAX,
                                              .on_request = on_request,
                                              .arg = door};
        door->http = http_server_new(&options);
        if (http_server_listen(door->http, served->engine.address, door->port, &port, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void drop_pending(struct served *served) {
    struct pending *pending = NULL;
    while ((pending = TAILQ_FIRST(&served->pending)) != NULL) {
        if (pending->request != NULL) {
            http_request_on_gone(pending->request, NULL, NULL);
            http_stream_abort(pending->request);
        }
        forget(pending);
    }
    served->loads_running = 0;
}

static void close_doors(struct served *served) {
    drop_pending(served);
    for (size_t i = 0; i < ARRAY_LEN(served->doors); i++) {
        http_server_free(take_pointer(served->doors[i].http));
    }
}

int served_init(struct served *served, const struct served_options *options, struct error *err) {
    *served = (struct served){.loop = options->loop, .log = options->log, .counts.starts = 1};
    TAILQ_INIT(&served->pending);
    engine_init(&served->engine, options->kind, options->address, options->base_model);
    served->doors[DOOR_ENGINE] = (struct served_door){.served = served, .door = DOOR_ENGINE, .port = options->port};
    served->doors[DOOR_SIDECAR] = (struct served_door){.served = served, .door = DOOR_SIDECAR, .port = options->sidecar_port};
    return open_doors(served, err);
}

void served_release(struct served *served) {
    close_doors(served);
    engine_release(&served->engine);
}

int served_set(struct served *served, const json_t *settings, struct error *err) {
    if (engine_set(&served->engine, settings, err) < 0) {
        return -1;
    }
    if (served->engine.settings.dead) {
        close_doors(served);
        return 0;
    }
    wake_all(served, STATE_HUNG);
    wake_all(served, STATE_QUEUED);
    return open_doors(served, err);
}

void served_restart(struct served *served) {
    drop_pending(served);
    engine_forget_all(&served->engine);
    served->counts.starts++;
}
