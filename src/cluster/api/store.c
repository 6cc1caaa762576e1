#include "cluster/api/store.h"

#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define CHECKPOINT_PAGES 4000 /* of 4 KiB: the log is folded into the file when it is about 16 MB */

struct store {
    sqlite3 *db;
    sqlite3_stmt *put;
    sqlite3_stmt *del;
    sqlite3_stmt *set_revision;
    struct loop *loop;
    pthread_t thread;
    bool is_started;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct store_batch *first;
    struct store_batch *last;
    bool is_stopping;
    bool has_failed; /* until store_resume */
};

static int sql_error(struct store *store, struct error *err, const char *what) {
    int cause = sqlite3_system_errno(store->db); /* "disk I/O error" alone does not say that the disk is full */
    return error_set(err, ERROR_IO, "store: %s: %s%s%s%s", what, sqlite3_errmsg(store->db), cause != 0 ? " (" : "",
                     cause != 0 ? strerror(cause) : "", cause != 0 ? ")" : "");
}

/* `what` it does, for the message. */
static int run_sql(struct store *store, const char *what, const char *sql, struct error *err) {
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return sql_error(store, err, what);
    }
    return 0;
}

static int prepare(struct store *store, const char *sql, sqlite3_stmt **ret_statement, struct error *err) {
    if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL) != SQLITE_OK) {
        return sql_error(store, err, "preparing a statement");
    }
    return 0;
}

static int check_version(struct store *store, struct error *err) {
    sqlite3_stmt *statement = NULL;
    if (prepare(store, "PRAGMA user_version", &statement, err) < 0) {
        return -1;
    }
    int version = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int(statement, 0) : -1;
    sqlite3_finalize(statement);
    if (version < 0 || version > SCHEMA_VERSION) {
        return error_set(err, ERROR_INVALID, "store: schema version %d, expected at most %d: a newer davit wrote this state",
                         version, SCHEMA_VERSION);
    }
    return 0;
}

static int set_up(struct store *store, struct error *err) {
    sqlite3_busy_timeout(store->db, 5000);
    if (run_sql(store, "opening the write-ahead log", "PRAGMA journal_mode=WAL", err) < 0 ||
        run_sql(store, "setting up", "PRAGMA synchronous=FULL", err) < 0 || check_version(store, err) < 0 ||
        run_sql(store, "making the tables",
                "CREATE TABLE IF NOT EXISTS objects(resource TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, body "
                "BLOB NOT NULL,"
                " PRIMARY KEY(resource, key)) WITHOUT ROWID;"
                "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
                "INSERT OR IGNORE INTO meta VALUES('revision', 0);"
                "PRAGMA user_version=1;",
                err) < 0) {
        return -1;
    }
    sqlite3_wal_autocheckpoint(store->db, CHECKPOINT_PAGES);
    if (prepare(store, "INSERT OR REPLACE INTO objects VALUES(?1, ?2, ?3, ?4)", &store->put, err) < 0 ||
        prepare(store, "DELETE FROM objects WHERE resource = ?1 AND key = ?2", &store->del, err) < 0) {
        return -1;
    }
    return prepare(store, "UPDATE meta SET value = ?1 WHERE name = 'revision'", &store->set_revision, err);
}

int store_open(const char *path, struct store **ret_store, struct error *err) {
    struct store *store = xcalloc(1, sizeof(*store));
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->wake, NULL);
    int rc = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        error_set(err, ERROR_IO, "store: cannot open: %s", store->db != NULL ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc));
    } else if (set_up(store, err) == 0) {
        *ret_store = store;
        return 0;
    }
    store_close(store);
    return error_wrap(err, "%s", path);
}

int store_load(struct store *store,
               int (*each)(void *arg, const char *resource, const char *key, const char *text, size_t len, struct error *err),
               void *arg, int64_t *ret_revision, struct error *err) {
    sqlite3_stmt *statement = NULL;
    if (prepare(store, "SELECT resource, key, body FROM objects ORDER BY resource, key", &statement, err) < 0) {
        return -1;
    }
    int rc = SQLITE_ROW;
    int result = 0;
    while (result == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        const void *body = sqlite3_column_blob(statement, 2);
        result = each(arg, (const char *)sqlite3_column_text(statement, 0), (const char *)sqlite3_column_text(statement, 1), body,
                      (size_t)sqlite3_column_bytes(statement, 2), err);
    }
    sqlite3_finalize(statement);
    if (result < 0) {
        return -1;
    }
    if (rc != SQLITE_DONE || prepare(store, "SELECT value FROM meta WHERE name = 'revision'", &statement, err) < 0) {
        return sql_error(store, err, "reading objects");
    }
    if (sqlite3_step(statement) == SQLITE_ROW) {
        *ret_revision = sqlite3_column_int64(statement, 0);
    } else {
        result = sql_error(store, err, "reading the revision");
    }
    sqlite3_finalize(statement);
    return result;
}

static int step_and_reset(struct store *store, sqlite3_stmt *statement, struct error *err) {
    int rc = sqlite3_step(statement);
    int result = rc == SQLITE_DONE ? 0 : sql_error(store, err, "writing");
    sqlite3_reset(statement);
    return result;
}

static int write_one(struct store *store, const struct store_write *write, struct error *err) {
    sqlite3_stmt *statement = write->text != NULL ? store->put : store->del;
    sqlite3_bind_text(statement, 1, write->resource, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, write->key, -1, SQLITE_STATIC);
    if (write->text != NULL) {
        sqlite3_bind_int64(statement, 3, write->revision);
        sqlite3_bind_blob64(statement, 4, write->text, write->len, SQLITE_STATIC);
    }
    return step_and_reset(store, statement, err);
}

/* One transaction for all batches of the list. */
static int write_all(struct store *store, const struct store_batch *first, struct error *err) {
    int64_t revision = 0;
    for (const struct store_batch *batch = first; batch != NULL; batch = batch->next) {
        if (batch->count > 0) {
            revision = batch->writes[batch->count - 1].revision;
        }
    }
    if (revision == 0) {
        return 0; /* barriers only */
    }
    if (run_sql(store, "beginning", "BEGIN IMMEDIATE", err) < 0) {
        return -1;
    }
    for (const struct store_batch *batch = first; batch != NULL; batch = batch->next) {
        for (size_t i = 0; i < batch->count; i++) {
            if (write_one(store, &batch->writes[i], err) < 0) {
                goto undo;
            }
        }
    }
    sqlite3_bind_int64(store->set_revision, 1, revision);
    if (step_and_reset(store, store->set_revision, err) < 0 || run_sql(store, "writing", "COMMIT", err) < 0) {
        goto undo;
    }
    return 0;
undo:
    (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

/* On the loop: answers a list of batches in order. A batch may be freed by its on_done. */
static void deliver(void *arg) {
    for (struct store_batch *batch = arg, *next = NULL; batch != NULL; batch = next) {
        next = batch->next;
        batch->on_done(batch->arg, batch->has_failed ? &batch->err : NULL);
    }
}

static void *run_thread(void *arg) {
    struct store *store = arg;
    pthread_mutex_lock(&store->lock);
    while (true) {
        while (store->first == NULL && !store->is_stopping) {
            pthread_cond_wait(&store->wake, &store->lock);
        }
        struct store_batch *first = store->first;
        if (first == NULL) {
            break;
        }
        store->first = store->last = NULL;
        bool refuses = store->has_failed;
        pthread_mutex_unlock(&store->lock);

        struct error err = {0};
        bool has_failed = true;
        if (refuses) {
            error_set(&err, ERROR_UNAVAILABLE, "store: an earlier write failed");
        } else {
            has_failed = write_all(store, first, &err) < 0;
        }
        for (struct store_batch *batch = first; batch != NULL; batch = batch->next) {
            batch->has_failed = has_failed;
            batch->err = err;
        }

        pthread_mutex_lock(&store->lock);
        store->has_failed = store->has_failed || has_failed;
        pthread_mutex_unlock(&store->lock);
        loop_post(store->loop, deliver, first);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

int store_start(struct store *store, struct loop *loop, struct error *err) {
    store->loop = loop;
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&store->thread, NULL, run_thread, store);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        return error_set(err, ERROR_IO, "store: cannot start a thread: %s", strerror(rc));
    }
    (void)pthread_setname_np(store->thread, "store");
    store->is_started = true;
    return 0;
}

void store_submit(struct store *store, struct store_batch *batch) {
    batch->store = store;
    batch->next = NULL;
    pthread_mutex_lock(&store->lock);
    if (store->last != NULL) {
        store->last->next = batch;
    } else {
        store->first = batch;
    }
    store->last = batch;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->lock);
}

void store_resume(struct store *store) {
    pthread_mutex_lock(&store->lock);
    store->has_failed = false;
    pthread_mutex_unlock(&store->lock);
}

void store_close(struct store *store) {
    if (store == NULL) {
        return;
    }
    if (store->is_started) {
        pthread_mutex_lock(&store->lock);
        store->is_stopping = true;
        pthread_cond_signal(&store->wake);
        pthread_mutex_unlock(&store->lock);
        pthread_join(store->thread, NULL);
    }
    sqlite3_finalize(store->put);
    sqlite3_finalize(store->del);
    sqlite3_finalize(store->set_revision);
    sqlite3_close(store->db);
    pthread_cond_destroy(&store->wake);
    pthread_mutex_destroy(&store->lock);
    free(store);
}
