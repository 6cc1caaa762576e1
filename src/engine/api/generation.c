/* A completion from HTTP request to HTTP answer. A generation lives until the engine's last event for it, which may be after its
 * answer was complete (a stop string) or its client has gone. */
#include "engine/api/answer.h"
#include "engine/api/api_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>
#include <sys/random.h>

#define REQUEST_ID_BYTES_MAX 128

struct generation {
    struct generation *next;
    struct generation **link; /* what points to it */
    struct api *api;
    struct http_request *http; /* NULL once answered or gone */
    bool is_streaming;         /* the head was sent */
    struct openai_request request;
    struct answer answer;
    char *request_id;
    struct lora_waiter waiter; /* while its adapter is looked up, before anything runs */
    uint64_t engine_id;
    int64_t began_ns;
    int64_t last_token_ns; /* 0 = none yet */
};

static struct generation *generation_new(struct api *api, struct http_request *http) {
    struct generation *generation = xcalloc(1, sizeof(*generation));
    generation->api = api;
    generation->http = http;
    generation->next = api->first_generation;
    generation->link = &api->first_generation;
    if (generation->next != NULL) {
        generation->next->link = &generation->next;
    }
    api->first_generation = generation;
    api->generations++;
    return generation;
}

static void generation_free(struct generation *generation) {
    *generation->link = generation->next;
    if (generation->next != NULL) {
        generation->next->link = generation->link;
    }
    generation->api->generations--;
    answer_release(&generation->answer);
    openai_request_release(&generation->request);
    free(generation->request_id);
    free(generation);
}

/* ---- events ---- */

static void on_engine_event(void *arg, const struct engine_event *event) {
    struct generation *generation = arg;
    inbox_put(generation->api->inbox, generation, event);
}

static void measure(struct generation *generation, const struct inbox_item *item) {
    struct engine_metrics *metrics = generation->api->metrics;
    if (item->event.token < 0) {
        return;
    }
    if (generation->last_token_ns == 0) {
        engine_metrics_first_token(metrics, (double)(item->at_ns - generation->began_ns) / 1e9);
    } else {
        engine_metrics_next_token(metrics, (double)(item->at_ns - generation->last_token_ns) / 1e9);
    }
    generation->last_token_ns = item->at_ns;
}

static void write_sse(struct generation *generation, bool is_last) {
    cleanup_buffer struct buffer events = BUFFER_INIT;
    answer_append_sse(&generation->answer, &events);
    if (!generation->is_streaming) {
        http_stream_begin(generation->http, 200, "text/event-stream; charset=utf-8");
        generation->is_streaming = true;
    }
    if (events.len > 0) {
        /* A slow reader's backlog is bounded by the answer's length (max_model_len), so it needs no pause. */
        (void)http_stream_write(generation->http, events.data, events.len);
    }
    if (is_last) {
        http_stream_end(take_pointer(generation->http));
    }
}

/* The engine gave up (it is stopping): an error the client can tell from a short answer. */
static void reply_aborted(struct generation *generation) {
    struct api_error error = {0};
    (void)api_error_set(&error, 503, "ServiceUnavailableError", NULL, "The engine is stopping; the request was not finished.");
    if (!generation->is_streaming) {
        api_reply_error(take_pointer(generation->http), &error);
    } else {
        cleanup_buffer struct buffer events = BUFFER_INIT;
        buffer_append_text(&events, "data: ");
        api_error_body(&error, &events);
        buffer_append_text(&events, "\n\ndata: [DONE]\n\n");
        (void)http_stream_write(generation->http, events.data, events.len);
        http_stream_end(take_pointer(generation->http));
    }
    api_error_release(&error);
}

static void advance(struct generation *generation, const struct engine_event *event) {
    enum answer_step step = answer_take_event(&generation->answer, event);
    if (step == ANSWER_DONE && generation->answer.finish == ENGINE_FINISH_ABORT) {
        reply_aborted(generation);
        return;
    }
    if (generation->request.stream) {
        write_sse(generation, step != ANSWER_MORE);
    } else if (step != ANSWER_MORE) {
        cleanup_buffer struct buffer body = BUFFER_INIT;
        answer_append_body(&generation->answer, &body);
        api_reply_json(take_pointer(generation->http), 200, &body);
    }
    if (step == ANSWER_STOPPED) {
        engine_cancel(generation->api->options.engine, generation->engine_id);
    }
}

void api_on_event(void *arg, const struct inbox_item *item) {
    struct api *api = arg;
    struct generation *generation = item->generation;
    measure(generation, item);
    if (generation->http != NULL) {
        advance(generation, &item->event);
    }
    if (item->event.finish == ENGINE_FINISH_NONE) {
        return;
    }
    enum engine_finish finish = generation->answer.finish != ENGINE_FINISH_NONE ? generation->answer.finish : item->event.finish;
    engine_metrics_finished(api->metrics, answer_finish_reason(finish), (double)(item->at_ns - generation->began_ns) / 1e9);
    generation_free(generation);
}

/* Of one that still waits for its adapter: nothing runs, so no event ends it. */
static void forget_waiting(struct generation *generation) {
    lora_resolver_leave(&generation->waiter);
    generation_free(generation);
}

void api_abort(struct api *api) {
    struct generation *next = NULL;
    for (struct generation *generation = api->first_generation; generation != NULL; generation = next) {
        next = generation->next;
        if (generation->http != NULL) {
            reply_aborted(generation);
        }
        if (generation->waiter.lookup != NULL) {
            forget_waiting(generation);
        } else {
            engine_cancel(api->options.engine, generation->engine_id);
        }
    }
}

static void on_client_gone(void *arg) {
    struct generation *generation = arg;
    generation->http = NULL;
    if (generation->waiter.lookup != NULL) {
        log_debug("request %s: the client has gone before its adapter was there", generation->request_id);
        forget_waiting(generation);
        return;
    }
    log_debug("request %s: the client has gone, cancelled", generation->answer.id);
    engine_cancel(generation->api->options.engine, generation->engine_id);
}

/* ---- the start ---- */

/* The client's X-Request-Id when it is harmless, else 16 random hexadecimal digits. */
static char *choose_request_id(const struct http_request *http) {
    const char *given = http_fields_get(&http_request_head(http)->fields, "X-Request-Id");
    size_t len = given != NULL ? strlen(given) : 0;
    bool is_good = len > 0 && len <= REQUEST_ID_BYTES_MAX;
    for (size_t i = 0; i < len && is_good; i++) {
        is_good = given[i] > ' ' && given[i] < 0x7f;
    }
    if (is_good) {
        return xstrdup(given);
    }
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), 0) < 0) {
        number = (uint64_t)clock_now_ns();
    }
    return xasprintf("%016llx", (unsigned long long)number);
}

static int encode(struct api *api, const struct openai_request *request, struct token_list *prompt, struct api_error *error) {
    const struct tokenizer *tokenizer = engine_tokenizer(api->options.engine);
    const struct engine_model_info *info = engine_model_info(api->options.engine);
    if (request->prompt_ids != NULL) {
        for (size_t i = 0; i < request->prompt_id_count; i++) {
            if (request->prompt_ids[i] >= info->vocab_size) {
                return api_error_set(error, 400, "BadRequestError", "prompt", "Token id %d is out of vocabulary (%d tokens)",
                                     request->prompt_ids[i], info->vocab_size);
            }
        }
        size_t bytes = request->prompt_id_count * sizeof(int);
        *prompt =
            (struct token_list){.ids = xmalloc(bytes), .count = request->prompt_id_count, .capacity = request->prompt_id_count};
        memcpy(prompt->ids, request->prompt_ids, bytes);
        return 0;
    }
    cleanup_buffer struct buffer rendered = BUFFER_INIT;
    if (request->is_chat) {
        tokenizer_render_chat(request->messages, request->message_count, request->add_generation_prompt, &rendered);
    } else {
        buffer_append(&rendered, request->prompt_text, request->prompt_text_len);
        if (tokenizer_adds_bos(tokenizer)) {
            *prompt = (struct token_list){.ids = xmalloc(sizeof(int)), .count = 1, .capacity = 1};
            prompt->ids[0] = tokenizer_bos(tokenizer);
        }
    }
    struct error err = {0};
    if (tokenizer_encode(tokenizer, buffer_text(&rendered), rendered.len, true, (size_t)info->max_model_len, prompt, &err) == 0) {
        return 0;
    }
    if (err.code == ERROR_LIMIT) {
        return openai_too_long(error, info->max_model_len, request->has_max_tokens ? request->max_tokens : 1,
                               (size_t)info->max_model_len + 1, true);
    }
    return api_error_from_engine(error, &err);
}

static int check_length(const struct openai_request *request, int max_model_len, size_t prompt_len, struct api_error *error) {
    int64_t output = request->has_max_tokens ? request->max_tokens : 1;
    if ((int64_t)prompt_len + output > max_model_len) {
        return openai_too_long(error, max_model_len, output, prompt_len, false);
    }
    return 0;
}

static void fill_request(struct generation *generation, const char *adapter, const struct token_list *prompt,
                         struct engine_request *request) {
    const struct openai_request *asked = &generation->request;
    const struct engine_model_info *info = engine_model_info(generation->api->options.engine);
    int64_t rest = info->max_model_len - (int64_t)prompt->count;
    *request = (struct engine_request){
        .adapter = adapter,
        .prompt = prompt->ids,
        .prompt_len = prompt->count,
        .max_tokens = (int)(asked->has_max_tokens ? asked->max_tokens : rest),
        .temperature = asked->temperature,
        .top_p = asked->top_p,
        .top_k = asked->top_k <= 0 || asked->top_k >= info->vocab_size ? 0 : (int)asked->top_k,
        .min_p = asked->min_p,
        .has_seed = asked->has_seed,
        .seed = (uint64_t)asked->seed,
        .logprobs = (int)asked->logprobs,
        .ignore_eos = asked->ignore_eos,
        .min_tokens = (int)(asked->min_tokens < rest ? asked->min_tokens : rest),
        .stop_tokens = asked->stop_tokens,
        .stop_token_count = asked->stop_token_count,
        .on_event = on_engine_event,
        .arg = generation,
    };
}

static void start_answer(struct generation *generation, const char *adapter) {
    struct api *api = generation->api;
    const struct openai_request *request = &generation->request;
    const struct tokenizer *tokenizer = engine_tokenizer(api->options.engine);
    cleanup_free char *id = xasprintf("%s-%s", request->is_chat ? "chatcmpl" : "cmpl", generation->request_id);
    cleanup_buffer struct buffer echo = BUFFER_INIT;
    if (request->echo) {
        buffer_append(&echo, request->prompt_text, request->prompt_text_len);
        for (size_t i = 0; i < request->prompt_id_count; i++) {
            tokenizer_decode_append(tokenizer, request->prompt_ids[i], request->skip_special_tokens, &echo);
        }
    }
    struct answer_options options = {
        .request = request,
        .tokenizer = tokenizer,
        .id = id,
        .created = clock_wall_ms() / 1000,
        .model = adapter != NULL ? adapter : api->options.served_names[0],
        .fingerprint = api->fingerprint,
        .echo = echo.data,
        .echo_len = echo.len,
    };
    answer_init(&generation->answer, &options);
}

/* Checks and submits; -1: nothing runs and *error is the answer. */
static int submit(struct generation *generation, struct api_error *error) {
    struct api *api = generation->api;
    const char *adapter = NULL;
    struct token_list prompt = {0};
    int max_model_len = engine_model_info(api->options.engine)->max_model_len;
    if (api_find_model(api, generation->request.model, &adapter, error) < 0 ||
        openai_request_check(&generation->request, max_model_len, error) < 0 ||
        encode(api, &generation->request, &prompt, error) < 0 ||
        check_length(&generation->request, max_model_len, prompt.count, error) < 0) {
        token_list_release(&prompt);
        return -1;
    }
    start_answer(generation, adapter);
    struct engine_request request;
    fill_request(generation, adapter, &prompt, &request);
    struct error err = {0};
    generation->began_ns = clock_now_ns();
    int result = engine_submit(api->options.engine, &request, &generation->engine_id, &err);
    token_list_release(&prompt);
    if (result < 0 && err.code == ERROR_NOT_FOUND) { /* unloaded since it was looked up */
        return api_find_model(api, generation->request.model, &adapter, error) < 0 ? -1 : api_error_from_engine(error, &err);
    }
    return result < 0 ? api_error_from_engine(error, &err) : 0;
}

static void begin(struct generation *generation) {
    struct api_error error = {0};
    if (submit(generation, &error) < 0) {
        api_reply_error(take_pointer(generation->http), &error);
        generation_free(generation);
    }
    api_error_release(&error);
}

/* ---- adapters that nobody knows yet ---- */

static void reply_not_resolved(struct generation *generation, const struct error *err) {
    struct api_error error = {0};
    (void)api_error_from_lookup(generation->api, generation->request.model, err, &error);
    api_reply_error(take_pointer(generation->http), &error);
    api_error_release(&error);
    generation_free(generation);
}

static void on_resolved(void *arg, const struct error *err) {
    struct generation *generation = arg;
    if (err == NULL) {
        begin(generation);
    } else {
        reply_not_resolved(generation, err);
    }
}

/* Whether the request waits for its adapter now, or has its answer. */
static bool resolve(struct generation *generation) {
    struct api *api = generation->api;
    const char *model = generation->request.model;
    if (api->resolver == NULL || *model == '\0' || api_is_served_name(api, model) ||
        engine_has_adapter(api->options.engine, model)) {
        return false;
    }
    struct error err = {0};
    generation->waiter = (struct lora_waiter){.on_done = on_resolved, .arg = generation};
    if (lora_resolver_ask(api->resolver, model, &generation->waiter, &err) < 0) {
        reply_not_resolved(generation, &err);
    }
    return true;
}

static void start(struct api *api, struct http_request *http, bool is_chat) {
    char *request_id = choose_request_id(http);
    http_reply_field(http, "X-Request-Id", request_id);
    json_t *document = api_take_document(api, http);
    if (document == NULL) {
        free(request_id);
        return;
    }
    struct generation *generation = generation_new(api, http);
    generation->request_id = request_id;
    http_request_on_gone(http, on_client_gone, generation);
    struct api_error error = {0};
    if (openai_request_parse(document, is_chat, &generation->request, &error) < 0) {
        api_reply_error(http, &error);
        generation_free(generation);
    } else if (!resolve(generation)) {
        begin(generation);
    }
    api_error_release(&error);
}

void api_completions(struct api *api, struct http_request *http) {
    start(api, http, false);
}

void api_chat_completions(struct api *api, struct http_request *http) {
    start(api, http, true);
}
