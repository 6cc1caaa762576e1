#include "controller/gateway_api.h"

#include "base/log.h"

#define ASK_SOON_MS 10000
#define ASK_AGAIN_MS 300000

/* Asked in this order; an answer other than "yes" ends the asking. */
enum question { ASK_DISCOVERY, ASK_ROUTES, ASK_GRANTS };

struct gateway_api {
    struct gateway_api_setup setup;
    enum gateway_api_state state;
    enum question question;
    struct kube_stream *stream; /* of ASK_DISCOVERY */
    struct kube_call *call;     /* of the others */
    struct timer timer;         /* the next asking */
    bool has_asked_soon;
};

static void settle(struct gateway_api *api, enum gateway_api_state state, const char *why) {
    bool is_news = api->state != state;
    api->state = state;
    timer_set(&api->timer, api->has_asked_soon ? ASK_AGAIN_MS : ASK_SOON_MS);
    api->has_asked_soon = true;
    if (is_news) {
        api->setup.on_change(api->setup.arg, state, why);
    }
}

static void ask(struct gateway_api *api);

static void on_answer(struct gateway_api *api, const struct error *err) {
    if (err == NULL && api->question < ASK_GRANTS && api->state != GATEWAY_API_INSTALLED) {
        api->question++;
        ask(api);
    } else if (err == NULL) {
        settle(api, GATEWAY_API_INSTALLED, NULL);
    } else if (err->code == ERROR_NOT_FOUND) {
        settle(api, GATEWAY_API_ABSENT, NULL);
    } else if (err->code == ERROR_DENIED) {
        settle(api, GATEWAY_API_DENIED, err->message);
    } else { /* no answer is no news */
        log_debug("%s", err->message);
        timer_set(&api->timer, ASK_SOON_MS);
    }
}

static int on_page(void *arg, const char *bytes, size_t len) {
    (void)arg, (void)bytes, (void)len; /* that there is one is the answer */
    return 0;
}

static void on_discovered(void *arg, const struct error *err) {
    struct gateway_api *api = arg;
    api->stream = NULL;
    on_answer(api, err);
}

static void on_listed(void *arg, json_t *object, const struct error *err) {
    struct gateway_api *api = arg;
    (void)object;
    api->call = NULL;
    on_answer(api, err);
}

/* The lists say whether we may: a watch that is refused would be tried again every half minute. */
static void ask(struct gateway_api *api) {
    if (api->question == ASK_DISCOVERY) {
        struct kube_stream_request request = {.path_and_query = "/apis/gateway.networking.k8s.io/v1",
                                              .what = "discover the Gateway API",
                                              .timeout_ms = 30000,
                                              .on_data = on_page,
                                              .on_done = on_discovered,
                                              .arg = api};
        api->stream = kube_stream_start(api->setup.kube, &request);
        return;
    }
    bool is_routes = api->question == ASK_ROUTES;
    struct kube_request request = {.verb = KUBE_LIST,
                                   .resource = is_routes ? &kube_http_routes : &kube_reference_grants,
                                   .namespace = is_routes ? api->setup.gateway_namespace : api->setup.namespace,
                                   .query = "limit=1",
                                   .on_done = on_listed,
                                   .arg = api};
    api->call = kube_start(api->setup.kube, &request);
}

static void on_timer(void *arg) {
    struct gateway_api *api = arg;
    api->question = ASK_DISCOVERY;
    ask(api);
}

enum gateway_api_state gateway_api_state(const struct gateway_api *api) {
    return api->state;
}

void gateway_api_ask_soon(struct gateway_api *api) {
    if (api->stream == NULL && api->call == NULL) {
        timer_set(&api->timer, ASK_SOON_MS);
    }
}

struct gateway_api *gateway_api_new(const struct gateway_api_setup *setup) {
    struct gateway_api *api = xcalloc(1, sizeof(*api));
    api->setup = *setup;
    timer_init(&api->timer, kube_client_loop(setup->kube), on_timer, api);
    timer_set(&api->timer, 0);
    return api;
}

void gateway_api_free(struct gateway_api *api) {
    if (api->stream != NULL) {
        kube_stream_cancel(api->stream);
    }
    if (api->call != NULL) {
        kube_call_cancel(api->call);
    }
    timer_release(&api->timer);
    free(api);
}
