/* What is in use is not removed, whoever uses it; and nobody on a loop waits for a lock. */
#include "artifact/cache/store.h"
#include "base/clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "http_peer.h"

#define ID "00112233445566778899aabbccddeeff"
#define OTHER_ID "ffeeddccbbaa99887766554433221100"

/* Two handles are as two processes: their locks are of different open files. */
struct world {
    char *root;
    struct artifact_options options;
    struct artifact_cache *ours;
    struct artifact_cache *others;
    char *folder; /* of object ID */
};

static void world_open(struct world *world) {
    struct error err;
    char root[] = "/tmp/davit-test-XXXXXX";
    assert_non_null(mkdtemp(root));
    *world = (struct world){.root = xstrdup(root)};
    world->options = (struct artifact_options){.cache = world->root};
    world->ours = artifact_cache_open(&world->options, &err);
    world->others = artifact_cache_open(&world->options, &err);
    assert_true(world->ours != NULL && world->others != NULL);
    world->folder = cache_object_folder(world->ours, ID);
}

static void world_close(struct world *world) {
    artifact_cache_close(world->ours);
    artifact_cache_close(world->others);
    cleanup_free char *command = xasprintf("rm -rf '%s'", world->root);
    assert_int_equal(system(command), 0);
    free(world->folder);
    free(world->root);
}

static int remove_it(void *arg) {
    (void)arg;
    return 0;
}

/* ---- who sees what ---- */

static void test_uses_are_seen_by_others(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    assert_false(cache_is_used(world.others, ID));
    cache_hold(world.ours, ID);
    assert_true(cache_is_used(world.others, ID)); /* at once: its folder is about to be given away */
    assert_int_equal(cache_unless_used(world.others, ID, remove_it, NULL), 0);
    assert_int_equal(cache_unless_used(world.ours, ID, remove_it, NULL), 0);
    assert_false(cache_is_used(world.others, OTHER_ID));
    artifact_cache_use(world.ours, world.folder);
    artifact_cache_use(world.ours, world.folder);
    artifact_cache_unuse(world.ours, world.folder);
    assert_true(cache_is_used(world.others, ID));
    artifact_cache_unuse(world.ours, world.folder);
    wait_until(!cache_is_used(world.others, ID));
    assert_int_equal(cache_unless_used(world.ours, ID, remove_it, NULL), 1);
    artifact_cache_use(world.ours, world.folder); /* without a fetch before: a restarted sidecar sees what its engine has */
    wait_until(cache_is_used(world.others, ID));
    world_close(&world);
}

/* ---- while somebody removes it ---- */

struct removal {
    struct world *world;
    pthread_t holder;
    atomic_bool has_held;
};

static int use_and_fail(void *arg) {
    const struct removal *removal = arg;
    artifact_cache_use(removal->world->ours, removal->world->folder); /* returns, though the lock is not to be had now */
    artifact_cache_unuse(removal->world->ours, removal->world->folder);
    artifact_cache_use(removal->world->ours, removal->world->folder);
    return -1;
}

static void test_a_use_does_not_wait(void **state) {
    (void)state;
    struct world world;
    struct removal removal = {.world = &world};
    world_open(&world);
    assert_int_equal(cache_unless_used(world.others, ID, use_and_fail, &removal), 0);
    wait_until(cache_is_used(world.others, ID)); /* it was not removed after all */
    world_close(&world);
}

static void *hold(void *arg) {
    struct removal *removal = arg;
    cache_hold(removal->world->ours, ID);
    atomic_store(&removal->has_held, true);
    return NULL;
}

static int begin_to_hold(void *arg) {
    struct removal *removal = arg;
    assert_int_equal(pthread_create(&removal->holder, NULL, hold, removal), 0);
    return 0;
}

static void test_a_hold_waits(void **state) {
    (void)state;
    struct world world;
    struct removal removal = {.world = &world};
    world_open(&world);
    assert_int_equal(cache_unless_used(world.others, ID, begin_to_hold, &removal), 1);
    pthread_join(removal.holder, NULL);
    assert_true(cache_is_used(world.others, ID));
    world_close(&world);
}

/* ---- where locks fail ---- */

/* A read lock on what is open for writing only is EBADF, as on other days it is ENOLCK. */
static int break_locks(const struct world *world) {
    int saved = fcntl(world->ours->uses_fd, F_DUPFD_CLOEXEC, 0);
    int fd = openat(world->ours->root_fd, "uses", O_WRONLY | O_CLOEXEC);
    assert_true(saved >= 0 && fd >= 0);
    assert_int_equal(dup2(fd, world->ours->uses_fd), world->ours->uses_fd);
    close(fd);
    return saved;
}

static void mend_locks(const struct world *world, int saved) {
    assert_int_equal(dup2(saved, world->ours->uses_fd), world->ours->uses_fd);
    close(saved);
}

static void test_a_lock_that_fails(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    int saved = break_locks(&world);
    cache_hold(world.ours, ID);
    artifact_cache_use(world.ours, world.folder);
    /* Who cannot lock does not see others' locks either. */
    assert_true(cache_is_used(world.ours, OTHER_ID));
    assert_int_equal(cache_unless_used(world.ours, OTHER_ID, remove_it, NULL), 0);
    mend_locks(&world, saved);
    wait_until(cache_is_used(world.others, ID));
    assert_int_equal(cache_unless_used(world.ours, OTHER_ID, remove_it, NULL), 1);
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uses_are_seen_by_others),
        cmocka_unit_test(test_a_use_does_not_wait),
        cmocka_unit_test(test_a_hold_waits),
        cmocka_unit_test(test_a_lock_that_fails),
    };
    return cmocka_run_group_tests_name("cache_uses", tests, NULL, NULL);
}
