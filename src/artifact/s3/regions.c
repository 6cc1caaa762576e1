#include "artifact/s3/regions.h"

#include "base/alloc.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

/* A ring: what was learnt longest ago goes. */
static struct {
    pthread_mutex_t mutex;
    char *buckets[S3_REGIONS_MAX]; /* "server bucket" */
    char *regions[S3_REGIONS_MAX];
    size_t next;
} memory = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static size_t find(const char *bucket) {
    size_t i = 0;
    while (i < S3_REGIONS_MAX && (memory.buckets[i] == NULL || strcmp(memory.buckets[i], bucket) != 0)) {
        i++;
    }
    return i;
}

char *s3_region_known(const char *server, const char *bucket) {
    cleanup_free char *name = xasprintf("%s %s", server, bucket);
    pthread_mutex_lock(&memory.mutex);
    size_t at = find(name);
    char *region = at < S3_REGIONS_MAX ? xstrdup(memory.regions[at]) : NULL;
    pthread_mutex_unlock(&memory.mutex);
    return region;
}

void s3_region_learn(const char *server, const char *bucket, const char *region) {
    cleanup_free char *name = xasprintf("%s %s", server, bucket);
    pthread_mutex_lock(&memory.mutex);
    size_t at = find(name);
    if (at == S3_REGIONS_MAX) {
        at = memory.next++ % S3_REGIONS_MAX;
        free(memory.buckets[at]);
        memory.buckets[at] = take_pointer(name);
    }
    free(memory.regions[at]);
    memory.regions[at] = xstrdup(region);
    pthread_mutex_unlock(&memory.mutex);
}
