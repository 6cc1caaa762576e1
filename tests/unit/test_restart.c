/* cluster/up: back-off of roles, ports, and davit.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "cluster/up/instance.h"
#include "cluster/up/log_bound.h"
#include "cluster/up/ports.h"
#include "cluster/up/restart.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[] = "/tmp/davit-test-up-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"davit.json", "role.log", "role.log.1"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cleanup_free char *path = path_join(folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static void test_delays_grow_and_are_capped(void **state) {
    (void)state;
    static const int64_t expected[] = {0, 250, 500, 1000, 2000, 5000, 5000, 5000};
    struct restart restart = {0};
    int64_t now_ms = 1000;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        restart_started(&restart, now_ms);
        now_ms += 20;
        assert_int_equal(restart_ended(&restart, now_ms), expected[i]);
        now_ms += expected[i];
    }
    assert_int_equal(restart.total, ARRAY_LEN(expected));
}

static void test_a_long_run_resets_the_delay(void **state) {
    (void)state;
    struct restart restart = {0};
    restart_started(&restart, 0);
    assert_int_equal(restart_ended(&restart, 10), 0);
    restart_started(&restart, 10);
    assert_int_equal(restart_ended(&restart, 20), 250);
    restart_started(&restart, 270);
    assert_int_equal(restart_ended(&restart, 270 + RESTART_RESET_MS), 0);
    assert_int_equal(restart.failures, 1);
}

static void test_instance_round_trip(void **state) {
    (void)state;
    struct error err = {0};
    struct instance written = {
        .supervisor = instance_own_process(), .api_port = 6443, .gateway_port = 8088, .version = "9.9", .role_count = 1};
    written.roles[0] = (struct instance_role){
        .name = "gateway", .process = {.pid = 77, .start_ticks = 5}, .restarts = 3, .is_ready = true, .started_wall_ms = 1234};
    assert_int_equal(instance_write(folder, &written, &err), 0);
    struct instance read = {0};
    assert_int_equal(instance_read(folder, &read, &err), 0);
    assert_true(instance_is_running(&read));
    assert_int_equal(read.api_port, 6443);
    assert_int_equal(read.gateway_port, 8088);
    assert_string_equal(read.version, "9.9");
    assert_int_equal(read.role_count, 1);
    assert_string_equal(read.roles[0].name, "gateway");
    assert_int_equal(read.roles[0].process.pid, 77);
    assert_int_equal(read.roles[0].restarts, 3);
    assert_true(read.roles[0].is_ready);
    read.supervisor.start_ticks++; /* our number, somebody else's process */
    assert_false(instance_is_running(&read));
    struct stat status;
    cleanup_free char *path = path_join(folder, "davit.json");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_missing_instance_is_not_found(void **state) {
    (void)state;
    struct error err = {0};
    struct instance instance;
    assert_int_equal(instance_read("/nonexistent", &instance, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_ports(void **state) {
    (void)state;
    struct error err = {0};
    struct port_claim first = {0}, other = {0}, again = {0};
    assert_int_equal(ports_choose("x", 0, 0, 6443, &first, &err), 0);
    assert_true(first.port > 0);
    /* Nobody listens there yet, and nobody else gets it all the same. */
    assert_int_equal(ports_choose("y", PORTS_ANY, first.port, 0, &other, &err), 0);
    assert_int_not_equal(other.port, first.port);
    assert_int_equal(ports_choose("y", first.port, 0, 0, &again, &err), -1);
    assert_int_equal(err.code, ERROR_BUSY);
    int port = first.port;
    port_claim_release(&first);
    assert_int_equal(ports_choose("x", PORTS_ANY, port, 1, &again, &err), 0); /* last time's port, because it is free */
    assert_int_equal(again.port, port);
    port_claim_release(&again);
    port_claim_release(&other);
    port_claim_release(&first);
}

static void test_log_is_bounded(void **state) {
    (void)state;
    struct error err = {0};
    cleanup_free char *path = path_join(folder, "role.log");
    cleanup_free char *old_path = path_join(folder, "role.log.1");
    FILE *log = fopen(path, "a");
    assert_non_null(log);
    (void)setvbuf(log, NULL, _IONBF, 0);
    (void)fputs("0123456789", log);
    assert_int_equal(log_bound(path, 10, &err), 0);
    assert_int_not_equal(access(old_path, F_OK), 0);
    (void)fputs("x", log);
    assert_int_equal(log_bound(path, 10, &err), 0);
    (void)fputs("after", log);
    (void)fclose(log);
    cleanup_buffer struct buffer old_text = BUFFER_INIT;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    assert_int_equal(file_read(old_path, 100, &old_text, &err), 0);
    assert_int_equal(file_read(path, 100, &text, &err), 0);
    assert_string_equal(buffer_text(&old_text), "0123456789x");
    assert_string_equal(buffer_text(&text), "after");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delays_grow_and_are_capped),
        cmocka_unit_test(test_a_long_run_resets_the_delay),
        cmocka_unit_test(test_instance_round_trip),
        cmocka_unit_test(test_missing_instance_is_not_found),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_log_is_bounded),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
