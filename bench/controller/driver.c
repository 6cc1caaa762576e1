/* The bench's hand on the Kubernetes API: writes thousands of objects over kept connections, and counts by a watch what becomes of
 * the ModelAdapters. One command a line on stdin, one answer a line on stdout, both JSON; times are seconds of CLOCK_MONOTONIC.
 *
 *   {"do": "write", "prefix": "a", "first": 0, "count": 1000, "steps": [{"verb": "create" | "patch" | "delete",
 *    "resource": "modeladapters", "subresource": "status", "body": {...}}, ...]}
 *       for each of the names a-00000, a-00001, ... all the steps, one after the other; many names at once. In a body @NAME@ stands
 *       for the name and @UID@ for the uid of what the first step made.
 *   {"do": "await", "what": "ready" | "loaded" | "fallen" | "objects", "at_least": N or "at_most": N, "timeout": SECONDS}
 *   {"do": "counts"}
 *
 * write answers when all were answered: {"began", "ended", "failed": K, "error": text}; await when the number of
 * adapters that are Ready, FullyLoaded or there is reached: {"at": time, "count": N}, or {"error": text}. */
#include "base/clock.h"
#include "base/log.h"
#include "kube/watch_cache.h"

#include <signal.h>
#include <string.h>

#define CALLS_MAX 32
#define LINE_BYTES_MAX (1u << 20)

struct driver {
    struct loop *loop;
    struct kube_config config;
    struct transfers *transfers;
    struct kube_client *client;
    struct watch_cache *adapters;
    const char *namespace;
    struct watch *input;
    struct buffer line;
    /* what the watch says */
    int64_t ready, loaded, objects, changes;
    int64_t fallen; /* how often one ceased to be FullyLoaded */
    /* the command that runs: a batch of calls */
    json_t *command;
    double began_s;
    int64_t left, failed;
    char error[ERROR_MESSAGE_BYTES];
    /* ... or a wait */
    bool is_waiting;
    struct timer timeout;
};

static double now_s(void) {
    return (double)clock_now_ns() / 1e9;
}

static void answer(json_t *object) {
    cleanup_free char *text = json_text(object);
    printf("%s\n", text);
    (void)fflush(stdout);
    json_decref(object);
}

static void answer_error(const char *message) {
    answer(json_pack("{s:s}", "error", message));
}

/* ---- the watch ---- */

static bool has_condition(const json_t *object, const char *type) {
    const json_t *conditions = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return strcmp(json_string_at(condition, "status", ""), "True") == 0;
        }
    }
    return false;
}

static void count(struct driver *driver, const json_t *object, int sign) {
    if (object != NULL) {
        driver->objects += sign;
        driver->ready += sign * has_condition(object, "Ready");
        driver->loaded += sign * has_condition(object, "FullyLoaded");
    }
}

static int64_t count_of(const struct driver *driver, const char *what) {
    const struct {
        const char *name;
        int64_t count;
    } counts[] = {{"ready", driver->ready}, {"loaded", driver->loaded}, {"fallen", driver->fallen}};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        if (strcmp(counts[i].name, what) == 0) {
            return counts[i].count;
        }
    }
    return driver->objects;
}

static void end_wait(struct driver *driver, const char *error) {
    int64_t found = count_of(driver, json_string_at(driver->command, "what", "objects"));
    bool is_reached = json_at(driver->command, "at_most") != NULL ? found <= json_int_at(driver->command, "at_most", 0)
                                                                  : found >= json_int_at(driver->command, "at_least", 0);
    if (!is_reached && error == NULL) {
        return;
    }
    driver->is_waiting = false;
    timer_clear(&driver->timeout);
    json_decref(take_pointer(driver->command));
    json_t *reached = json_pack("{s:f, s:I}", "at", now_s(), "count", (json_int_t)found);
    if (!is_reached) {
        json_object_set_new(reached, "error", json_string(error));
    }
    answer(reached);
}

static void on_change(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct driver *driver = arg;
    (void)change;
    driver->changes++;
    driver->fallen += new_object != NULL && has_condition(old_object, "FullyLoaded") && !has_condition(new_object, "FullyLoaded");
    count(driver, old_object, -1);
    count(driver, new_object, 1);
    if (driver->is_waiting) {
        end_wait(driver, NULL);
    }
}

static void on_timeout(void *arg) {
    end_wait(arg, "timed out");
}

/* ---- commands ---- */

/* One name, and how far its steps are. */
struct chain {
    struct driver *driver;
    char *name;
    char *uid;
    size_t step;
};

static void start_step(struct chain *chain);

static void end_chain(struct chain *chain) {
    struct driver *driver = chain->driver;
    free(chain->name);
    free(chain->uid);
    free(chain);
    if (--driver->left == 0) {
        json_decref(take_pointer(driver->command));
        answer(json_pack("{s:f, s:f, s:I, s:s}", "began", driver->began_s, "ended", now_s(), "failed", (json_int_t)driver->failed,
                         "error", driver->error));
    }
}

static void on_called(void *arg, json_t *object, const struct error *err) {
    struct chain *chain = arg;
    struct driver *driver = chain->driver;
    if (err != NULL) {
        driver->failed++;
        snprintf(driver->error, sizeof(driver->error), "%s", err->message);
    }
    if (chain->uid == NULL) {
        chain->uid = xstrdup(kube_uid(object));
    }
    chain->step++;
    if (err == NULL && chain->step < json_array_size(json_at(driver->command, "steps"))) {
        start_step(chain);
    } else {
        end_chain(chain);
    }
}

static json_t *fill_in(const struct chain *chain, const json_t *body) {
    const struct { const char *mark, *text; } marks[] = {{"@NAME@", chain->name}, {"@UID@", chain->uid != NULL ? chain->uid : ""}};
    cleanup_free char *text = json_text(body);
    cleanup_buffer struct buffer filled = BUFFER_INIT;
    for (const char *at = text; *at != '\0';) {
        size_t i = 0;
        while (i < ARRAY_LEN(marks) && strncmp(at, marks[i].mark, strlen(marks[i].mark)) != 0) {
            i++;
        }
        if (i < ARRAY_LEN(marks)) {
            buffer_append_text(&filled, marks[i].text);
            at += strlen(marks[i].mark);
        } else {
            buffer_append_char(&filled, *at++);
        }
    }
    struct error err = {0};
    return json_parse(filled.data, filled.len, &err);
}

static const struct kube_resource *find_resource(const char *plural) {
    const struct kube_resource *all[] = {&kube_services, &kube_endpoint_slices, &kube_events};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (strcmp(all[i]->plural, plural) == 0) {
            return all[i];
        }
    }
    return &kube_model_adapters;
}

static void start_step(struct chain *chain) {
    const json_t *step = json_array_get(json_at(chain->driver->command, "steps"), chain->step);
    const char *verb = json_string_at(step, "verb", "");
    bool is_create = strcmp(verb, "create") == 0;
    const json_t *body = json_at(step, "body");
    cleanup_json json_t *filled = body != NULL ? fill_in(chain, body) : NULL;
    struct kube_request request = {.verb = is_create                     ? KUBE_CREATE
                                           : strcmp(verb, "delete") == 0 ? KUBE_DELETE
                                                                         : KUBE_PATCH_MERGE,
                                   .resource = find_resource(json_string_at(step, "resource", "modeladapters")),
                                   .namespace = chain->driver->namespace,
                                   .name = is_create ? NULL : chain->name,
                                   .subresource = json_string_at(step, "subresource", NULL),
                                   .body = filled,
                                   .timeout_ms = 600000,
                                   .on_done = on_called,
                                   .arg = chain};
    (void)kube_start(chain->driver->client, &request);
}

static void start_batch(struct driver *driver) {
    int64_t first = json_int_at(driver->command, "first", 0), number = json_int_at(driver->command, "count", 0);
    const char *prefix = json_string_at(driver->command, "prefix", "a");
    driver->began_s = now_s();
    driver->left = number;
    driver->failed = 0;
    driver->error[0] = '\0';
    for (int64_t i = first; i < first + number; i++) {
        struct chain *chain = xcalloc(1, sizeof(*chain));
        *chain = (struct chain){.driver = driver, .name = xasprintf("%s-%05lld", prefix, (long long)i)};
        start_step(chain);
    }
}

static void start_wait(struct driver *driver) {
    driver->is_waiting = true;
    timer_set(&driver->timeout, json_int_at(driver->command, "timeout", 60) * 1000);
    end_wait(driver, NULL);
}

static void run_command(struct driver *driver, const char *line, size_t len) {
    struct error err = {0};
    json_t *command = json_parse(line, len, &err);
    const char *what = json_string_at(command, "do", "");
    bool is_batch = strcmp(what, "write") == 0 && json_array_size(json_at(command, "steps")) > 0;
    if (command == NULL || driver->command != NULL) {
        answer_error(command == NULL ? err.message : "a command runs already");
    } else if (is_batch && json_int_at(command, "count", 0) > 0) {
        driver->command = json_incref(command);
        start_batch(driver);
    } else if (strcmp(what, "await") == 0) {
        driver->command = json_incref(command);
        start_wait(driver);
    } else if (strcmp(what, "counts") == 0) {
        answer(json_pack("{s:I, s:I, s:I, s:I, s:I}", "fallen", (json_int_t)driver->fallen, "ready", (json_int_t)driver->ready,
                         "loaded", (json_int_t)driver->loaded, "objects", (json_int_t)driver->objects, "changes",
                         (json_int_t)driver->changes));
    } else {
        answer_error("not a command");
    }
    json_decref(command);
}

static void on_input(void *arg) {
    struct driver *driver = arg;
    char bytes[65536];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (got <= 0 || driver->line.len > LINE_BYTES_MAX) {
        loop_stop(driver->loop);
        return;
    }
    buffer_append(&driver->line, bytes, (size_t)got);
    char *end = NULL;
    while (driver->line.len > 0 && (end = memchr(driver->line.data, '\n', driver->line.len)) != NULL) {
        size_t len = (size_t)(end - driver->line.data);
        run_command(driver, driver->line.data, len);
        buffer_consume(&driver->line, len + 1);
    }
}

static void on_synced(void *arg) {
    (void)arg;
    answer(json_pack("{s:b}", "synced", 1));
}

int main(int argc, char **argv) {
    struct driver driver = {.namespace = "bench"};
    struct error err = {0};
    if (argc != 3 || kube_config_load(argv[1], &driver.config, &err) < 0) {
        fprintf(stderr, "usage: bench_driver KUBECONFIG NAMESPACE\n%s\n", err.message);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    driver.namespace = argv[2];
    driver.loop = loop_new();
    driver.transfers = transfers_new(driver.loop);
    driver.client = kube_client_new(driver.loop, driver.transfers, &driver.config, "davit-bench", CALLS_MAX);
    timer_init(&driver.timeout, driver.loop, on_timeout, &driver);
    struct watch_cache_options watch = {.client = driver.client,
                                        .resource = &kube_model_adapters,
                                        .namespace = driver.namespace,
                                        .on_change = on_change,
                                        .on_synced = on_synced,
                                        .arg = &driver};
    driver.adapters = watch_cache_new(&watch);
    driver.input = watch_new(driver.loop, STDIN_FILENO, on_input, &driver);
    loop_run(driver.loop);
    watch_free(driver.input);
    watch_cache_free(driver.adapters);
    timer_release(&driver.timeout);
    kube_client_free(driver.client);
    transfers_free(driver.transfers);
    loop_free(driver.loop);
    kube_config_release(&driver.config);
    buffer_release(&driver.line);
    json_decref(driver.command);
    return 0;
}
