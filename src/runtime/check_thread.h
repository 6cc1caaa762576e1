/* One thread that runs artifact checks, so that the loop never waits for a disk. Results come back on the loop. */
#ifndef DAVIT_RUNTIME_CHECK_THREAD_H
#define DAVIT_RUNTIME_CHECK_THREAD_H

#include "base/error.h"
#include "io/loop.h"

struct check_thread;
struct check;

struct check_thread *check_thread_new(struct loop *loop);
void check_thread_free(
    struct check_thread *thread); /* ends the thread after the check that runs; drops the others without a callback */

/* result as of artifact_check; err is NULL unless it is negative. */
typedef void check_done(void *arg, int result, const struct error *err);
struct check *check_start(struct check_thread *thread, const char *folder, check_done *on_done, void *arg);
void check_cancel(struct check *check); /* no callback follows */

#endif
