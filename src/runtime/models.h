/* Base models: fetched once by whoever asks, some at a time, and found again by later processes (runtime/model_store.h).
 *
 * One name in one folder has one download under way, whoever asks for it. One that was cut goes on when it is asked for again,
 * after a restart too. What is there is told to be there without asking its source, until another URL, revision or set of files is
 * wanted under the name, or `force_download`. On the loop; the fetching is the threads' of a pool a folder, and whatever else the
 * disk is asked for a thread's of its own, since a file server may not answer. */
#ifndef DAVIT_RUNTIME_MODELS_H
#define DAVIT_RUNTIME_MODELS_H

#include "artifact/pool.h"
#include "runtime/model_request.h"

#define MODELS_FOLDER "/tmp/aibrix/models" /* where nobody says another */
#define MODELS_MAX 64                      /* that this process remembers; those that have ended make room */
#define MODEL_FOLDERS_MAX 8                /* with downloads under way */
#define MODEL_LISTINGS_MAX 64              /* that wait for the disk, those that were left too */

struct models;

struct models_options {
    struct loop *loop;
    const struct artifact_options *artifacts; /* as of adapters; cache and sizes are models' own */
    /* A download ended. */
    void (*on_ended)(void *arg, bool is_well, bool was_cached);
    /* Somebody who waits for a model should look at it. */
    void (*on_change)(void *arg);
    void *arg;
};

/* AIBrix's words for them are model_state_name's. */
enum model_state { MODEL_NOT_EXIST, MODEL_DOWNLOADING, MODEL_DOWNLOADED, MODEL_NO_OPERATION /* cut, or failed */ };
const char *model_state_name(enum model_state state);

struct model_status {
    const char *name;
    const char *folder;
    const char *root; /* where it is; NULL = <folder>/<name> */
    const char *source;
    enum model_state state;
    bool is_beginning;       /* its source was asked and has not answered yet */
    const char *words;       /* "downloading 41 % of 1234.5 MB", or why it failed; "" */
    const struct error *err; /* why it failed; NULL = it did not */
    uint64_t bytes_done;
    uint64_t bytes_total; /* 0 = not known */
};

struct models *models_new(const struct models_options *options);
void models_free(struct models *models); /* what runs is cancelled, and goes on in another process */

/* Begins, or joins what is under way; models_look says what becomes of it. Takes what is in the request. ERROR_CONFLICT: something
 * else comes under that name now. ERROR_BUSY. */
int models_download(struct models *models, struct model_request *request, struct error *err) DAVIT_MUST_USE;
/* How it is; borrowed until the loop turns. false = nobody asked for it. */
bool models_look(struct models *models, const char *folder, const char *name, struct model_status *ret);
/* All of a folder, those of earlier processes and of other programs (runtime/model_foreign.h) too: one after another, NULL after
 * the last, when the disk was looked at. NULL with ERROR_BUSY: too many wait for it already. */
struct models_listing;
struct models_listing *models_list(struct models *models, const char *folder,
                                   void (*show)(void *arg, const struct model_status *status), void *arg,
                                   struct error *err) DAVIT_MUST_USE;
void models_listing_leave(struct models_listing *listing); /* no callback follows */
/* Those that are being fetched, of all folders. */
void models_each_running(struct models *models, void (*show)(void *arg, const struct model_status *status), void *arg);

#endif
