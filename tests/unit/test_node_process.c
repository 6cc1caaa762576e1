/* Processes that outlive the node: spawned, recorded, found again, ended; and the nets they live in. */
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "cluster/node/log_file.h"
#include "cluster/node/log_times.h"
#include "cluster/node/marks.h"
#include "cluster/node/net.h"
#include "cluster/node/node.h"
#include "cluster/node/records.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char folder[64];

static int set_up(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/davit-test-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    records_remove(folder);
    return 0;
}

static struct process_id spawn(const char *script, const char *pod_folder, const char *container) {
    cleanup_free char *output = path_join(folder, "output");
    cleanup_free char *mark_folder = xasprintf("%s=%s", MARK_POD_FOLDER, pod_folder);
    cleanup_free char *mark_container = xasprintf("%s=%s", MARK_CONTAINER, container);
    char *arguments[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    char *environment[] = {(char *)"PATH=/usr/bin:/bin", mark_folder, mark_container, (char *)(MARK_RESTART "=0"), NULL};
    struct process_spec spec = {.program = "/bin/sh", .arguments = arguments, .environment = environment, .output_file = output};
    struct process_id id = {0};
    struct error err;
    assert_int_equal(process_spawn(&spec, &id, &err), 0);
    return id;
}

static void wait_until_ended(int pidfd) {
    struct pollfd waiting = {.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, 10000), 1);
}

static void wait_for_output(size_t len) {
    cleanup_free char *output = path_join(folder, "output");
    struct stat info = {0};
    for (int tries = 0; tries < 1000 && (stat(output, &info) < 0 || (size_t)info.st_size < len); tries++) {
        (void)poll(NULL, 0, 10);
    }
    assert_true((size_t)info.st_size >= len);
}

static void test_spawn_and_end(void **state) {
    (void)state;
    static const struct {
        const char *script;
        int signal_number;
        enum process_end end;
        int code;
    } cases[] = {{"echo out; echo err >&2; exit 7", 0, PROCESS_END_EXITED, 7},
                 {"echo ready!!!; exec sleep 60", SIGTERM, PROCESS_END_SIGNALED, SIGTERM}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct process_id id = spawn(cases[i].script, folder, "c");
        int pidfd = process_open(&id);
        assert_true(pidfd >= 0);
        wait_for_output(8 * (i + 1));
        if (cases[i].signal_number != 0) {
            struct process_id other = {.pid = id.pid, .start_ticks = id.start_ticks + 1};
            process_signal(&other, SIGKILL); /* the same pid, another process: left alone */
            assert_false(process_is_alive(&other));
            assert_true(process_is_alive(&id));
            assert_int_equal(getsid(id.pid), id.pid);
            process_signal(&id, cases[i].signal_number);
        }
        wait_until_ended(pidfd);
        int code = 0;
        assert_false(process_is_alive(&id));
        assert_int_equal(process_reap(pidfd, &code), cases[i].end);
        assert_int_equal(code, cases[i].code);
        close(pidfd);
        assert_int_equal(process_open(&id), -1);
    }
    struct process_spec missing = {.program = "/bin/sh", .folder = "/no/such", .output_file = "/dev/null"};
    struct process_id id;
    struct error err;
    assert_int_equal(process_spawn(&missing, &id, &err), -1);
    assert_non_null(strstr(err.message, "/no/such"));
}

static void test_find_program(void **state) {
    (void)state;
    cleanup_free char *found = process_find_program("sh", "/no:/bin", NULL);
    assert_string_equal(found, "/bin/sh");
    cleanup_free char *relative = process_find_program("bin/sh", NULL, "/");
    assert_string_equal(relative, "/bin/sh");
    assert_null(process_find_program("/bin", NULL, NULL));
    assert_null(process_find_program("/etc/passwd", NULL, NULL));
    assert_null(process_find_program("nope", "/bin", NULL));
    assert_null(process_find_program("", "/bin", NULL));
}

static struct pod *make_pod(void) {
    static const char text[] = "{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\",\"uid\":\"u\"},\"spec\":{\"containers\":[{"
                               "\"name\":\"a\"},{\"name\":\"b\"},"
                               "{\"name\":\"w\"}]}}";
    cleanup_json json_t *object = json_parse(text, strlen(text), NULL);
    return pod_new(object, "127.1.7.10", clock_wall_ms());
}

static void test_records_tell_who_lives(void **state) {
    (void)state;
    cleanup_free char *pod_folder = records_pod_folder(folder, "d", "p", "u");
    struct pod *pod = make_pod();
    struct process_id lives = spawn("exec sleep 60", pod_folder, "a");
    struct process_id dies = spawn("exit 3", pod_folder, "b");
    struct process_id unrecorded = spawn("echo started; exec sleep 60", pod_folder, "w");
    wait_for_output(8);
    pod_note_started(&pod->containers[0], lives, 2, 1000, clock_wall_ms() - 5000);
    pod_note_started(&pod->containers[1], dies, 0, 1000, clock_wall_ms());
    struct error err;
    assert_int_equal(records_write(pod_folder, pod, &err), 0);
    pod_free(pod);
    assert_int_equal(waitpid(dies.pid, NULL, 0), dies.pid);

    cleanup_json json_t *record = records_read(pod_folder);
    pod = make_pod();
    records_restore(record, pod, 100000, clock_wall_ms());
    assert_int_equal(pod->containers[0].state, CONTAINER_RUNNING);
    assert_int_equal(pod->containers[0].process.pid, lives.pid);
    assert_int_equal(pod->containers[0].restart_count, 2);
    assert_true(pod->containers[0].started_ms <= 95000);
    assert_int_equal(pod->containers[1].state, CONTAINER_WAITING);
    assert_string_equal(json_string_at(pod->containers[1].last_ended, "reason", ""), "ExitCodeUnknown");
    assert_int_equal(json_int_at(pod->containers[1].last_ended, "exitCode", 0), 255);
    assert_int_equal(pod->containers[2].state, CONTAINER_WAITING);
    pod_free(pod);
    assert_true(records_any_alive(folder));

    int count = 0;
    assert_int_equal(node_kill_all(folder, 5000, &count, &err), 0);
    assert_int_equal(count, 2); /* the one that no record knows, too */
    assert_false(records_any_alive(folder));
    assert_false(process_is_alive(&unrecorded));
    (void)waitpid(lives.pid, NULL, 0);
    (void)waitpid(unrecorded.pid, NULL, 0);
}

static void test_kill_all_insists(void **state) {
    (void)state;
    cleanup_free char *pod_folder = records_pod_folder(folder, "d", "p", "u");
    struct process_id stubborn = spawn("trap '' TERM; echo started; while :; do sleep 0.05; done", pod_folder, "a");
    wait_for_output(8);
    struct error err;
    assert_int_equal(node_kill_all(folder, 100, NULL, &err), 0);
    int status = 0;
    assert_int_equal(waitpid(stubborn.pid, &status, 0), stubborn.pid);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    int count = 7;
    assert_int_equal(node_kill_all("/no/such", 100, &count, &err), 0); /* no node ever ran there */
    assert_int_equal(count, 0);
}

/* A process that a container started and left behind when it ended; its pid is what the container wrote. */
static struct process_id spawn_orphan(const char *pod_folder, struct process_id *ret_leader) {
    cleanup_free char *output = path_join(folder, "output");
    (void)unlink(output);
    *ret_leader = spawn("sleep 60 & echo $!; exit 0", pod_folder, "a");
    int pidfd = process_open(ret_leader);
    wait_until_ended(pidfd);
    close(pidfd);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error err;
    assert_int_equal(file_read(output, 64, &text, &err), 0);
    struct process_id orphan = {0};
    assert_int_equal(process_identify((pid_t)strtol(buffer_text(&text), NULL, 10), &orphan), 0);
    return orphan;
}

static void test_what_a_dead_leader_left_behind_is_ended(void **state) {
    (void)state;
    cleanup_free char *pod_folder = records_pod_folder(folder, "d", "p", "u");
    struct process_id leader;
    struct process_id orphan = spawn_orphan(pod_folder, &leader);
    assert_int_equal(waitpid(leader.pid, NULL, 0), leader.pid);
    struct error err;
    int count = 0;
    assert_int_equal(node_kill_all(folder, 5000, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_false(process_is_alive(&orphan));
}

static void test_leftovers(void **state) {
    (void)state;
    struct process_id leader;
    struct process_id orphan = spawn_orphan(folder, &leader);
    process_kill_leftovers(&leader); /* not reaped yet */
    for (int tries = 0; tries < 1000 && process_is_alive(&orphan); tries++) {
        (void)poll(NULL, 0, 10);
    }
    assert_false(process_is_alive(&orphan));
    assert_int_equal(waitpid(leader.pid, NULL, 0), leader.pid);
    /* The pid is somebody else's by now. */
    struct process_id stranger = spawn("exec sleep 60", folder, "b");
    process_kill_leftovers(&(struct process_id){.pid = stranger.pid, .start_ticks = stranger.start_ticks + 1});
    process_signal(&stranger, SIGTERM);
    int status = 0;
    assert_int_equal(waitpid(stranger.pid, &status, 0), stranger.pid);
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void test_net(void **state) {
    (void)state;
    struct net net;
    struct net again;
    struct error err;
    assert_int_equal(net_take(folder, NULL, &net, &err), 0);
    cleanup_free char *first = net_address_take(&net);
    cleanup_free char *second = net_address_take(&net);
    assert_string_not_equal(first, second);
    assert_false(net_address_mark(&net, first));
    assert_false(net_address_mark(&net, "127.2.0.1"));
    net_address_give_back(&net, first);
    cleanup_free char *third = net_address_take(&net);
    assert_string_not_equal(third, first); /* as late as possible */
    assert_true(net_address_mark(&net, first));
    int number = net.number;
    char *address = NULL;
    int taken = 0;
    for (; (address = net_address_take(&net)) != NULL; taken++) {
        free(address);
    }
    assert_int_equal(taken, NET_HOST_LAST - NET_HOST_FIRST + 1 - 3);

    char other[] = "/tmp/davit-test-XXXXXX";
    assert_non_null(mkdtemp(other));
    assert_int_equal(net_take(other, net.cidr, &again, &err), -1); /* somebody else's */
    assert_int_equal(err.code, ERROR_BUSY);
    assert_int_equal(net_take(other, NULL, &again, &err), 0);
    assert_int_not_equal(again.number, number);
    net_release(&again);
    net_release(&net);
    assert_int_equal(net_take(folder, NULL, &net, &err), 0); /* a folder keeps its net */
    assert_int_equal(net.number, number);
    net_release(&net);
    assert_int_equal(net_take(folder, "10.0.0.0/24", &net, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    records_remove(other);
}

static void test_log_files(void **state) {
    (void)state;
    cleanup_free char *path = path_join(folder, "x.log");
    cleanup_free char *aside = path_join(folder, "x.log.1");
    struct error err;
    assert_int_equal(file_replace(path, "a\nb\nc\n", 6, 0600, &err), 0);
    cleanup_close int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    static const int64_t offsets[] = {6, 4, 2, 0, 0};
    for (int lines = 0; lines < (int)ARRAY_LEN(offsets); lines++) {
        assert_int_equal(log_file_tail_offset(fd, lines), offsets[lines]);
    }
    log_file_rotate(path);
    assert_int_equal(access(aside, F_OK), -1);
    assert_int_equal(ftruncate(fd, LOG_FILE_BYTES_MAX + 1), 0);
    log_file_rotate(path);
    struct stat info;
    assert_int_equal(stat(aside, &info), 0);
    assert_int_equal(info.st_size, LOG_FILE_BYTES_MAX + 1);
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_size, 0);
}

static void write_log(const char *log, size_t bytes) {
    cleanup_close int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cleanup_free char *text = xcalloc(bytes, 1);
    assert_int_equal(write(fd, text, bytes), bytes);
}

static void test_log_times(void **state) {
    (void)state;
    cleanup_free char *log = path_join(folder, "0.log");
    struct log_times times;
    int64_t size = -1;
    log_times_note(log, 1000, &size); /* there is none yet */
    for (int64_t second = 1; second <= 5; second++) {
        write_log(log, second == 3 ? 0 : 10); /* silent in the third */
        log_times_note(log, second * 1000, &size);
    }
    log_times_read(log, &times);
    static const struct {
        int64_t end;
        int64_t wall_ms;
    } cases[] = {{1, 1000}, {10, 1000}, {11, 2000}, {20, 2000}, {21, 4000}, {40, 5000}, {41, 9999}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(log_times_of(&times, cases[i].end, 9999), cases[i].wall_ms);
    }
    assert_int_equal(log_times_before(&times, 1000), 0);
    assert_int_equal(log_times_before(&times, 3500), 20);
    assert_int_equal(log_times_before(&times, 60000), 40);
    log_times_release(&times);
    /* A node that starts again goes on, also with a clock that was set back; what it sees is in order. */
    size = -1;
    log_times_note(log, 3000, &size);
    write_log(log, 5);
    log_times_note(log, 3500, &size);
    log_times_read(log, &times);
    assert_int_equal(times.count, 5);
    assert_int_equal(log_times_of(&times, 45, 9999), 5000);
    log_times_release(&times);
    /* However long it runs. */
    for (int64_t second = 10; second < 10 + 3 * LOG_TIMES_MAX; second++) {
        write_log(log, 1);
        log_times_note(log, second * 1000, &size);
    }
    log_times_read(log, &times);
    assert_true(times.count > LOG_TIMES_MAX / 4 && times.count <= LOG_TIMES_MAX);
    int64_t late_ms = log_times_of(&times, 45 + LOG_TIMES_MAX, 0) - (9 + LOG_TIMES_MAX) * 1000LL;
    assert_true(late_ms >= 0 && late_ms <= 64000);
    log_times_release(&times);
    log_times_forget(log);
    log_times_read(log, &times);
    assert_int_equal(times.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_spawn_and_end, set_up, tear_down),
        cmocka_unit_test(test_find_program),
        cmocka_unit_test_setup_teardown(test_records_tell_who_lives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kill_all_insists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_dead_leader_left_behind_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leftovers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_net, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_times, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
