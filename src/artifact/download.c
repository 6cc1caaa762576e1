/* A run over work: chunks of files that are asked for, at most `parts` at a time. Callbacks only write what came and note how an
 * exchange ended; what follows from that is decided between runs of the loop, since sources may ask again (for tokens) themselves.
 */
#include "artifact/download.h"

#include "artifact/download_item.h"
#include "artifact/exchange.h"
#include "artifact/pace.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#include <string.h>
#include <strings.h>

#define OPEN_MAX 16 /* files at a time: each has two descriptors, a large one a thread that hashes it */
#define PARTS_DEFAULT 4
#define PARTS_MAX 16
#define STALL_MS_DEFAULT 30000
#define STALLS_A_WINDOW 2               /* in which enough has to come */
#define FAILURES_MAX 5                  /* in a row without a byte */
#define RESTARTS_MAX 3                  /* of one file */
#define RECEIVE_BYTES (256u << 10)      /* at a time, of large files; less costs more: on ext4 a tenth of all CPU with half of it */
#define RECEIVE_BYTES_SOME (128u << 10) /* of files that are larger than that: many fetches run side by side */
#define SAY_EVERY_MS 10000

struct download;

/* One exchange at a time. */
struct lane {
    struct download *download;
    struct item *item; /* NULL = idle */
    size_t chunk;
    bool is_waiting; /* for its next try */
    bool is_whole;   /* it asked for the whole file */
    int64_t due_ms;
    int failures;
    uint64_t done_before;
    struct artifact_request request;
    struct exchange *exchange;
    /* how it ended */
    bool has_ended;
    struct artifact_reply reply;
    int64_t retry_after_ms;
    bool has_own_error; /* `err` was set by what took the bytes, and is final */
    struct error err;   /* code ERROR_NONE = an answer */
};

struct download {
    const struct download_args *args;
    struct manifest *manifest; /* of the files that are finished */
    struct lane lanes[PARTS_MAX];
    size_t lane_count;
    bool has_news; /* an exchange ended */
    bool is_stale;
    uint64_t bytes_max;
    int64_t started_ms;
    int64_t said_ms;
    unsigned said_percent;
    uint64_t resumed_bytes;
    uint64_t received_bytes; /* what was thrown away too */
    struct pace pace;
    size_t opened_count; /* items so far */
    size_t open_count;   /* and now */
    struct item items[]; /* one a file of the listing */
};

/* 0 = libcurl's own choice, 16 KiB: each piece is a wait, a call and an acknowledgement. */
static size_t receive_bytes(const struct item *item) {
    bool is_some = item->staged.file->bytes > RECEIVE_BYTES_SOME && item->staged.file->bytes != UINT64_MAX;
    return item_is_large(item) ? RECEIVE_BYTES : is_some ? RECEIVE_BYTES_SOME : 0;
}

/* ---- progress ---- */

static uint64_t bytes_done(const struct download *download) {
    uint64_t sum = 0;
    for (size_t i = 0; i < download->args->listing->count; i++) {
        sum += download->items[i].finished_bytes + staged_bytes(&download->items[i].staged);
    }
    return sum;
}

static void show(struct download *download) {
    const struct artifact_progress *progress = download->args->progress;
    uint64_t done = bytes_done(download);
    atomic_store(&download->args->progress->bytes_done, done);
    uint64_t total = atomic_load(&progress->bytes_total);
    unsigned percent = artifact_percent(done, total);
    int64_t now_ms = clock_now_ms();
    bool is_due = now_ms - download->said_ms >= SAY_EVERY_MS ||
                  (now_ms - download->said_ms >= 1000 && percent >= download->said_percent + 10);
    if (is_due) {
        int64_t spent_ms = now_ms - download->started_ms;
        double rate = spent_ms > 0 ? (double)(done - download->resumed_bytes) / 1000.0 / (double)spent_ms : 0;
        log_info("downloading %s: %.1f of %.1f MB (%u %%), %.1f MB/s", download->args->label, (double)done / 1e6,
                 (double)total / 1e6, percent, rate);
        download->said_ms = now_ms;
        download->said_percent = percent;
    }
}

/* ---- bytes ---- */

static int own_error(struct lane *lane) {
    lane->has_own_error = true;
    return -1;
}

/* "bytes 5-9/10": that is the range that was asked for. */
static int check_range(struct lane *lane, const char *fields) {
    const struct staged *staged = &lane->item->staged;
    uint64_t start = staged_chunk_start(staged, lane->chunk) + staged->done[lane->chunk];
    cleanup_free char *found = transfer_field(fields, "content-range");
    cleanup_free char *expected = xasprintf("bytes %llu-", (unsigned long long)start);
    cleanup_free char *total = xasprintf("/%llu", (unsigned long long)staged->file->bytes);
    const char *slash = found != NULL ? strchr(found, '/') : NULL;
    if (slash == NULL || strncasecmp(found, expected, strlen(expected)) != 0 ||
        (strcmp(slash, total) != 0 && strcmp(slash, "/*") != 0)) {
        error_set(&lane->err, ERROR_INVALID, "%s: expected the range %s...%s, found \"%.80s\"", staged->file->name, expected, total,
                  found != NULL ? found : "");
        return own_error(lane);
    }
    return 0;
}

/* The same file as in the answers before? Only where the source gave nothing that is asked for with each part. */
static bool is_same_file(struct item *item, const char *fields) {
    cleanup_free char *etag = transfer_field(fields, "etag");
    cleanup_free char *modified = transfer_field(fields, "last-modified");
    const char *found = etag != NULL ? etag : modified != NULL ? modified : "";
    if (item->staged.file->etag != NULL) {
        return true;
    }
    if (item->validator[0] == '\0') {
        (void)snprintf(item->validator, sizeof(item->validator), "%s", found);
        return true;
    }
    return strncmp(item->validator, found, sizeof(item->validator) - 1) == 0;
}

/* Some servers take no notice of If-Match. What is no ETag (a generation, a weak one) is the source's to check. */
static bool is_another_file(const struct artifact_file *file, const char *fields) {
    cleanup_free char *found = transfer_field(fields, "etag");
    return file->etag != NULL && file->etag[0] == '"' && found != NULL && found[0] == '"' && strcmp(found, file->etag) != 0;
}

static bool is_whole_request(const struct lane *lane) {
    return lane->item->is_unranged || (!lane->item->staged.is_chunked && lane->item->staged.done[0] == 0);
}

static int on_head(void *arg, const struct transfer_response *head) {
    struct lane *lane = arg;
    struct item *item = lane->item;
    bool is_whole = lane->is_whole;
    if (is_another_file(item->staged.file, head->fields)) {
        lane->download->is_stale = true;
        error_set(&lane->err, ERROR_UNAVAILABLE, "%s was changed meanwhile", item->staged.file->name);
        return own_error(lane);
    }
    if (!is_whole && head->status == 206) {
        if (!is_same_file(item, head->fields)) {
            item->must_restart = true;
            return -1;
        }
        return check_range(lane, head->fields);
    }
    if (head->status != 200) {
        error_set(&lane->err, ERROR_INVALID, "%s: HTTP %d: expected %d", item->staged.file->name, head->status,
                  is_whole ? 200 : 206);
        return own_error(lane);
    }
    if (!is_whole) { /* it knows no ranges */
        item->must_restart = true;
        item->is_unranged = true;
        return -1;
    }
    (void)is_same_file(item, head->fields);
    /* Where nothing tells one content from another, the rest of one is not put behind the beginning of another. */
    item->is_unranged |= item->validator[0] == '\0' && !staged_is_known(item->staged.file);
    return 0;
}

static int on_data(void *arg, const char *bytes, size_t len) {
    struct lane *lane = arg;
    struct staged *staged = &lane->item->staged;
    uint64_t most = staged_chunk_bytes(staged, lane->chunk);
    if (most != UINT64_MAX && len > most - staged->done[lane->chunk]) {
        error_set(&lane->err, ERROR_INVALID, "%s: expected %llu bytes, found more", staged->file->name,
                  (unsigned long long)staged->file->bytes);
        return own_error(lane);
    }
    if (most == UINT64_MAX && len > lane->download->bytes_max - staged->done[lane->chunk]) {
        error_set(&lane->err, ERROR_LIMIT, "%s is larger than the limit of %llu bytes", staged->file->name,
                  (unsigned long long)lane->download->bytes_max);
        return own_error(lane);
    }
    lane->download->received_bytes += len;
    if (staged_write(staged, lane->chunk, bytes, len, &lane->err) < 0) {
        return own_error(lane);
    }
    if (lane->item->digester != NULL) {
        digester_add(lane->item->digester, bytes, len);
        lane->item->digested += len;
    }
    item_follow(lane->item);
    return 0;
}

static void on_done(void *arg, const struct transfer_response *response, const char *url, const struct error *err) {
    struct lane *lane = arg;
    lane->exchange = NULL;
    lane->has_ended = true;
    lane->download->has_news = true;
    exchange_wake(lane->download->args->http);
    if (response == NULL) {
        if (!lane->has_own_error) {
            lane->err = *err;
        }
        return;
    }
    lane->retry_after_ms = response->retry_after_ms;
    lane->reply.status = response->status;
    lane->reply.fields = xstrdup(response->fields);
    lane->reply.url = xstrdup(url);
    buffer_append(&lane->reply.body, response->body, response->body_len);
}

/* ---- lanes ---- */

static void lane_clear(struct lane *lane) {
    exchange_cancel(lane->exchange);
    artifact_request_release(&lane->request);
    artifact_reply_release(&lane->reply);
    struct download *download = lane->download;
    *lane = (struct lane){.download = download};
}

static int64_t stall_ms(const struct download *download) {
    int64_t given_ms = download->args->options->stall_ms;
    return given_ms > 0 ? given_ms : STALL_MS_DEFAULT;
}

static int lane_ask(struct lane *lane, struct error *err) {
    const struct download_args *args = lane->download->args;
    const struct staged *staged = &lane->item->staged;
    uint64_t start = staged_chunk_start(staged, lane->chunk);
    artifact_request_release(&lane->request);
    artifact_reply_release(&lane->reply);
    lane->is_waiting = lane->has_ended = lane->has_own_error = false;
    lane->err = (struct error){0};
    lane->done_before = staged->done[lane->chunk];
    if (args->type->request(args->source, staged->file, &lane->request, err) < 0) {
        return -1;
    }
    lane->is_whole = is_whole_request(lane);
    if (!lane->is_whole) {
        artifact_request_header(&lane->request, "Range: bytes=%llu-%llu", (unsigned long long)(start + staged->done[lane->chunk]),
                                (unsigned long long)(start + staged_chunk_bytes(staged, lane->chunk) - 1));
    }
    const struct exchange_sink sink = {
        .on_head = on_head,
        .on_data = on_data,
        .receive_bytes = receive_bytes(lane->item),
        .stall_ms = stall_ms(lane->download),
        .arg = lane,
    };
    lane->exchange = exchange_start(args->http, &lane->request, &sink, on_done, lane);
    return 0;
}

/* The next chunk that nobody works at, in order: the hash follows the beginning of a file. */
static bool take_work(struct download *download, struct lane *lane, int64_t now_ms) {
    for (size_t i = 0; i < download->opened_count; i++) {
        struct item *item = &download->items[i];
        if (item->due_ms > now_ms) {
            continue;
        }
        struct staged *staged = &item->staged;
        while (item->next_chunk < staged->chunk_count &&
               staged->done[item->next_chunk] == staged_chunk_bytes(staged, item->next_chunk)) {
            item->next_chunk++;
        }
        if (!item->is_whole && item->next_chunk < staged->chunk_count) {
            lane->item = item;
            lane->chunk = item->next_chunk++;
            return true;
        }
    }
    return false;
}

/* At once when a server turned out to know no ranges; else after the pause that the try would have had. */
static int restart(struct download *download, struct item *item, struct error *err) {
    item->due_ms = item->restarts > 0 ? clock_now_ms() + exchange_pause_ms(item->restarts, 0) : 0;
    for (size_t i = 0; i < download->lane_count; i++) {
        struct lane *lane = &download->lanes[i];
        if (lane->item == item) {
            item->due_ms = lane->is_waiting && lane->due_ms > item->due_ms ? lane->due_ms : item->due_ms;
            lane_clear(lane);
        }
    }
    if (++item->restarts > RESTARTS_MAX) {
        return error_set(err, ERROR_UNAVAILABLE, "%s: %s: it was begun %d times and never came whole from one and the same file",
                         download->args->label, item->staged.file->name, RESTARTS_MAX + 1);
    }
    return item_restart(item, download->args->progress, err);
}

/* ---- what became of an exchange ---- */

static int try_again(struct lane *lane, struct error *err) {
    bool has_moved = lane->item->staged.done[lane->chunk] > lane->done_before;
    staged_note(&lane->item->staged, lane->chunk);
    /* Of a file that cannot be asked for from the middle nothing is gained by what came. */
    if (lane->item->is_unranged || staged_chunk_bytes(&lane->item->staged, lane->chunk) == UINT64_MAX) {
        lane->item->must_restart = lane->item->staged.done[lane->chunk] > 0;
        has_moved = false;
    }
    lane->failures = has_moved ? 1 : lane->failures + 1;
    if (lane->failures > FAILURES_MAX) {
        return error_wrap(err, "%s: %d tries", lane->item->staged.file->name, lane->failures);
    }
    lane->is_waiting = true;
    lane->due_ms =
        clock_now_ms() + (has_moved && lane->retry_after_ms == 0 ? 0 : exchange_pause_ms(lane->failures, lane->retry_after_ms));
    return 0;
}

static int judge_status(struct lane *lane, struct error *err) {
    const struct download_args *args = lane->download->args;
    int status = lane->reply.status;
    args->type->explain(args->source, lane->item->staged.file, &lane->reply, err);
    if (status == 412) {
        lane->download->is_stale = true;
        return -1;
    }
    if (status == 416) { /* what is there is longer than what the source has */
        lane->item->must_restart = true;
        lane->item->is_unranged = true;
        return 0;
    }
    return exchange_is_worth_another(status, NULL) || err->code == ERROR_UNAVAILABLE ? try_again(lane, err) : -1;
}

static void unavailable_when_cut(struct error *err) {
    if (err->code == ERROR_IO) {
        err->code = ERROR_UNAVAILABLE;
        err->http_status = error_code_http_status(ERROR_UNAVAILABLE);
    }
}

static int judge(struct lane *lane, struct error *err) {
    struct staged *staged = &lane->item->staged;
    lane->has_ended = false;
    if (lane->has_own_error) {
        *err = lane->err;
        return error_wrap(err, "%s", lane->download->args->label);
    }
    if (lane->item->must_restart) {
        return 0;
    }
    if (lane->err.code != ERROR_NONE) {
        *err = lane->err;
        unavailable_when_cut(err);
        return exchange_is_worth_another(0, err) ? try_again(lane, err) : -1;
    }
    if (lane->reply.status != 200 && lane->reply.status != 206) {
        return judge_status(lane, err);
    }
    uint64_t wanted = staged_chunk_bytes(staged, lane->chunk);
    if (wanted != UINT64_MAX && staged->done[lane->chunk] < wanted) {
        error_set(err, ERROR_UNAVAILABLE, "%s: %s: expected %llu bytes, found %llu", lane->download->args->label,
                  staged->file->name, (unsigned long long)wanted, (unsigned long long)staged->done[lane->chunk]);
        if (lane->is_whole || lane->done_before == staged->done[lane->chunk]) {
            err->code = ERROR_INVALID; /* it said that this was all */
            err->http_status = error_code_http_status(ERROR_INVALID);
            return -1;
        }
        return try_again(lane, err);
    }
    staged_note(staged, lane->chunk);
    lane->item->is_whole |= wanted == UINT64_MAX;
    lane_clear(lane);
    return 0;
}

static int judge_all(struct download *download, struct error *err) {
    for (size_t i = 0; i < download->lane_count; i++) {
        struct lane *lane = &download->lanes[i];
        if (lane->item != NULL && lane->has_ended && judge(lane, err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < download->opened_count; i++) {
        if (download->items[i].must_restart && restart(download, &download->items[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- which files are open ---- */

static bool is_there(const struct download *download, const struct item *item) {
    for (size_t i = 0; i < download->lane_count; i++) {
        if (download->lanes[i].item == item) {
            return false;
        }
    }
    return item->is_whole || (item->staged.file != NULL && staged_bytes(&item->staged) == item->staged.file->bytes);
}

static int finish_item(struct download *download, struct item *item, struct error *err) {
    if (item_finish(item, download->args->progress, download->manifest, err) < 0) {
        return error_wrap(err, "%s", download->args->label);
    }
    download->open_count--;
    return 0;
}

/* Finishes the first file that is there. 1, 0 when none is, or -1. */
static int finish_one(struct download *download, struct error *err) {
    for (size_t i = 0; i < download->opened_count; i++) {
        struct item *item = &download->items[i];
        if (item->staged.file != NULL && is_there(download, item)) {
            return finish_item(download, item, err) < 0 ? -1 : 1;
        }
    }
    return 0;
}

static int open_next(struct download *download, struct error *err) {
    const struct artifact_file *file = &download->args->listing->files[download->opened_count];
    struct item *item = &download->items[download->opened_count];
    int result = item_open(item, file, download->args->folder, download->args->progress, err);
    if (item->staged.file != NULL) {
        download->opened_count++;
        download->open_count++;
        download->resumed_bytes += staged_bytes(&item->staged);
    }
    return result;
}

/* What is there is finished when another file wants its place, so the hash of a large one has had its time. */
static int open_more(struct download *download, struct error *err) {
    while (download->opened_count < download->args->listing->count) {
        int result = download->open_count < OPEN_MAX ? 1 : finish_one(download, err);
        if (result <= 0) {
            return result;
        }
        if (open_next(download, err) < 0) {
            return -1;
        }
        show(download);
        if (artifact_progress_check(download->args->progress, err) < 0) { /* an earlier process may have left a lot to hash */
            return -1;
        }
    }
    return 0;
}

/* ---- the run ---- */

/* Starts what can be started. 1: something is under way. 0: everything is there. */
static int start_lanes(struct download *download, int64_t *ret_due_ms, struct error *err) {
    int64_t now_ms = clock_now_ms();
    int busy = 0;
    *ret_due_ms = now_ms + 1000; /* to say how far it is */
    for (size_t i = 0; i < download->lane_count; i++) {
        struct lane *lane = &download->lanes[i];
        bool is_new = lane->item == NULL && take_work(download, lane, now_ms);
        bool is_due = lane->item != NULL && lane->is_waiting && lane->due_ms <= now_ms;
        if ((is_new || is_due) && lane_ask(lane, err) < 0) {
            return -1;
        }
        if (lane->item != NULL) {
            busy = 1;
            *ret_due_ms = lane->is_waiting && lane->due_ms < *ret_due_ms ? lane->due_ms : *ret_due_ms;
        }
    }
    for (size_t i = 0; i < download->opened_count; i++) {
        int64_t item_due_ms = download->items[i].due_ms;
        if (item_due_ms > now_ms) { /* begun anew, in a while */
            busy = 1;
            *ret_due_ms = item_due_ms < *ret_due_ms ? item_due_ms : *ret_due_ms;
        }
    }
    return busy;
}

/* After the lanes were started. A server that lets every try move a little would keep a thread for as long as a fetch may take. */
static int check_pace(struct download *download, struct error *err) {
    struct pace *pace = &download->pace;
    bool is_waiting = false;
    for (size_t i = 0; i < download->lane_count; i++) {
        is_waiting |= download->lanes[i].exchange != NULL;
    }
    if (pace_is_fine(pace, clock_now_ms(), download->received_bytes, is_waiting)) {
        return 0;
    }
    return error_set(
        err, ERROR_TIMEOUT,
        "%s: too slow: %llu bytes came in %.1f s, and %d a second are the least that is waited for; the next fetch goes "
        "on with what is there",
        download->args->label, (unsigned long long)pace->bytes_received, (double)pace->spent_ms / 1000.0, PACE_BYTES_PER_S_MIN);
}

static int run(struct download *download, struct error *err) {
    int64_t due_ms = 0;
    int busy = 0;
    pace_init(&download->pace, STALLS_A_WINDOW * stall_ms(download), clock_now_ms());
    while ((busy = open_more(download, err)) == 0 && (busy = start_lanes(download, &due_ms, err)) == 1) {
        int64_t wait_ms = due_ms - clock_now_ms();
        if (check_pace(download, err) < 0 ||
            exchange_run(download->args->http, &download->has_news, wait_ms > 0 ? wait_ms : 0, err) < 0) {
            return -1;
        }
        download->has_news = false;
        show(download);
        if (judge_all(download, err) < 0) {
            return -1;
        }
    }
    return busy;
}

static void release(struct download *download) {
    for (size_t i = 0; i < ARRAY_LEN(download->lanes); i++) {
        if (download->lanes[i].item != NULL) {
            staged_note(&download->lanes[i].item->staged, download->lanes[i].chunk);
            lane_clear(&download->lanes[i]);
        }
    }
    for (size_t i = 0; i < download->opened_count; i++) {
        item_release(&download->items[i]);
    }
    free(download);
}

int download_files(const struct download_args *args, struct manifest *ret, bool *ret_is_stale, struct error *err) {
    struct download *download = xcalloc(1, sizeof(*download) + args->listing->count * sizeof(download->items[0]));
    unsigned parts = args->options->parts > 0 ? args->options->parts : PARTS_DEFAULT;
    download->args = args;
    download->manifest = ret;
    download->lane_count = parts < PARTS_MAX ? parts : PARTS_MAX;
    download->bytes_max = args->options->artifact_bytes_max > 0 ? args->options->artifact_bytes_max : ARTIFACT_BYTES_MAX_DEFAULT;
    download->started_ms = download->said_ms = clock_now_ms();
    for (size_t i = 0; i < download->lane_count; i++) {
        download->lanes[i].download = download;
    }
    if (atomic_load(&args->progress->bytes_total) >= ITEM_LARGE_BYTES) {
        memory_give_back(); /* what starting took; buffers take its place */
    }
    int result = run(download, err);
    show(download);
    for (size_t i = 0; i < download->opened_count && result == 0; i++) {
        result = download->items[i].staged.file != NULL ? finish_item(download, &download->items[i], err) : 0;
    }
    *ret_is_stale = download->is_stale;
    release(download);
    return result;
}
