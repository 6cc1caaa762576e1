/* Objects in the cache's folders: which are broken, and what is swept. */
#include "artifact/cache/store.h"
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY "0123456789abcdef0123456789abcdef"
#define CONTENT "[]"
#define CONTENT_SHA256 "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"

static const char url_that_is_no_utf8[] = "s3://models/caf\xe9";

struct world {
    char *root;
    struct artifact_options options;
    struct artifact_cache *cache;
    char *object; /* its folder, when there is one */
};

static void world_open(struct world *world) {
    struct error err;
    char root[] = "/tmp/davit-test-XXXXXX";
    assert_non_null(mkdtemp(root));
    *world = (struct world){.root = xstrdup(root)};
    world->options = (struct artifact_options){.cache = world->root};
    world->cache = artifact_cache_open(&world->options, &err);
    assert_non_null(world->cache);
}

static void world_close(struct world *world) {
    artifact_cache_close(world->cache);
    cleanup_free char *command = xasprintf("rm -rf '%s'", world->root);
    assert_int_equal(system(command), 0);
    free(world->object);
    free(world->root);
}

static void write_file(const char *folder, const char *name, const char *text) {
    cleanup_free char *path = path_join(folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

/* Leaves so many descriptors to be had; -1 = all. */
static int limit_fds(int fds_left, struct rlimit *ret_before) {
    int end = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, ret_before), 0);
    if (fds_left < 0) {
        return 0;
    }
    for (int left = fds_left; fcntl(end, F_GETFD) >= 0 || left-- > 0;) {
        end++;
    }
    const struct rlimit limit = {.rlim_cur = (rlim_t)end, .rlim_max = ret_before->rlim_max};
    return setrlimit(RLIMIT_NOFILE, &limit);
}

/* As if it had just been downloaded. */
static int keep(struct world *world, int fds_left, struct error *err) {
    struct manifest manifest = {.url = xstrdup(url_that_is_no_utf8), .version = xstrdup("1")};
    struct rlimit before;
    cleanup_free char *staged = xasprintf("%s/v1/staging/" KEY "/files", world->root);
    assert_int_equal(file_make_dirs(staged, 0755, err), 0);
    write_file(staged, "adapter_config.json", CONTENT);
    manifest_add(&manifest, xstrdup("adapter_config.json"), strlen(CONTENT), CONTENT_SHA256);
    manifest_seal(&manifest);
    free(world->object);
    world->object = cache_object_folder(world->cache, manifest.id);
    assert_int_equal(limit_fds(fds_left, &before), 0);
    int result = cache_keep(world->cache, KEY, &manifest, err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    if (result == 0) {
        result = cache_record(world->cache, KEY, &manifest, err);
    }
    manifest_release(&manifest);
    return result;
}

static ino_t inode_of(const char *path) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return status.st_ino;
}

static int find(struct world *world, int fds_left, struct error *err) {
    struct manifest manifest = {0};
    struct rlimit before;
    assert_int_equal(limit_fds(fds_left, &before), 0);
    int result = cache_find(world->cache, KEY, &manifest, err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    if (result == 1) {
        manifest_release(&manifest);
    }
    return result;
}

static void test_what_is_whole_stays(void **state) {
    (void)state;
    struct world world;
    struct error err;
    world_open(&world);
    assert_int_equal(find(&world, -1, &err), 0);
    assert_int_equal(keep(&world, -1, &err), 0);
    assert_int_equal(find(&world, -1, &err), 1); /* whatever its URL */
    ino_t first = inode_of(world.object);
    assert_int_equal(keep(&world, -1, &err), 0);
    assert_int_equal(inode_of(world.object), first);
    world_close(&world);
}

/* It may be whole and read by an engine: only who has read it may call it broken. */
static void test_what_cannot_be_read_is_not_broken(void **state) {
    (void)state;
    struct world world;
    struct error err;
    world_open(&world);
    assert_int_equal(keep(&world, -1, &err), 0);
    ino_t first = inode_of(world.object);
    for (int fds = 0; fds <= 3; fds++) {
        assert_int_equal(keep(&world, fds, &err), -1);
        assert_int_equal(err.code, ERROR_IO);
        assert_non_null(strstr(err.message, "Too many open files"));
        assert_int_equal(inode_of(world.object), first);
    }
    for (int fds = 0; fds <= 1; fds++) {
        assert_int_equal(find(&world, fds, &err), -1);
        assert_int_equal(err.code, ERROR_IO);
    }
    assert_int_equal(find(&world, -1, &err), 1);
    world_close(&world);
}

static void test_what_is_broken_is_replaced(void **state) {
    (void)state;
    static const char *const damages[] = {"echo x >>'%s/adapter_config.json'",
                                          "rm '%s/adapter_config.json'",
                                          "rm '%s/manifest.json'",
                                          "echo {} >'%s/manifest.json'",
                                          "f='%s/adapter_config.json'; rm $f; ln -s /dev/null $f",
                                          "d='%s'; rm -r $d; touch $d"};
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        struct world world;
        struct error err;
        world_open(&world);
        assert_int_equal(keep(&world, -1, &err), 0);
        cleanup_buffer struct buffer command = BUFFER_INIT;
        const char *at = strstr(damages[i], "%s");
        buffer_printf(&command, "%.*s%s%s", (int)(at - damages[i]), damages[i], world.object, at + 2);
        assert_int_equal(system(buffer_text(&command)), 0);
        assert_int_equal(find(&world, -1, &err), 0);
        /* In a container of its own another process with our number may have left something. */
        cleanup_free char *trash =
            xasprintf("%s/v1/staging/trash.%s.%d", world.root, strrchr(world.object, '/') + 1, (int)getpid());
        assert_int_equal(file_make_dirs(trash, 0700, &err), 0);
        write_file(trash, "something", "");
        if (keep(&world, -1, &err) < 0) {
            fail_msg("%s: %s", damages[i], err.message);
        }
        assert_int_equal(find(&world, -1, &err), 1);
        world_close(&world);
    }
}

static void test_leftovers_are_swept(void **state) {
    (void)state;
    struct world world;
    struct error err;
    uint64_t freed = 0;
    const struct timespec long_ago[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    world_open(&world);
    assert_int_equal(keep(&world, -1, &err), 0);
    cleanup_free char *sources = xasprintf("%s/v1/sources", world.root);
    cleanup_free char *old = path_join(sources, ".new.0011223344556677");
    cleanup_free char *young = path_join(sources, ".new.0011223344556678");
    write_file(sources, ".new.0011223344556677", "{");
    write_file(sources, ".new.0011223344556678", "{");
    assert_int_equal(utimensat(AT_FDCWD, old, long_ago, 0), 0);
    assert_int_equal(artifact_cache_prune(world.cache, 1, &freed, &err), 0);
    assert_int_equal(access(old, F_OK), -1);
    assert_int_equal(access(young, F_OK), 0); /* somebody may be writing it */
    assert_int_equal(find(&world, -1, &err), 1);
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_whole_stays),
        cmocka_unit_test(test_what_cannot_be_read_is_not_broken),
        cmocka_unit_test(test_what_is_broken_is_replaced),
        cmocka_unit_test(test_leftovers_are_swept),
    };
    return cmocka_run_group_tests_name("cache_store", tests, NULL, NULL);
}
