/* When a download is too slow to be waited for. */
#include "artifact/pace.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WINDOW_MS 60000

/* Steps of a second until it is not fine; how many, at most `most`. */
static int seconds_until_slow(struct pace *pace, uint64_t bytes_per_s, bool is_waiting, int most) {
    pace_init(pace, WINDOW_MS, 1000);
    for (int i = 0; i <= most; i++) {
        if (!pace_is_fine(pace, 1000 + 1000 * (int64_t)i, bytes_per_s * (uint64_t)i, is_waiting)) {
            return i;
        }
    }
    return most;
}

static void test_a_window(void **state) {
    (void)state;
    struct pace pace;
    assert_int_equal(seconds_until_slow(&pace, 0, true, 1000), 60);
    assert_int_equal(seconds_until_slow(&pace, PACE_BYTES_PER_S_MIN - 1, true, 1000), 60);
    assert_int_equal(pace.bytes_received, 60 * (PACE_BYTES_PER_S_MIN - 1));
    assert_int_equal(seconds_until_slow(&pace, PACE_BYTES_PER_S_MIN, true, 10000), 10000);
}

static void test_each_window_counts_alone(void **state) {
    (void)state;
    struct pace pace;
    pace_init(&pace, WINDOW_MS, 0);
    assert_true(pace_is_fine(&pace, 0, 0, true));
    for (int i = 1; i <= 119; i++) { /* all of it in the first */
        assert_true(pace_is_fine(&pace, 1000 * (int64_t)i, 1ull << 30, true));
    }
    assert_false(pace_is_fine(&pace, 120000, 1ull << 30, true));
    assert_int_equal(pace.bytes_received, 0);
}

static void test_time_that_is_not_the_servers(void **state) {
    (void)state;
    struct pace pace;
    /* pauses between tries count a tenth */
    assert_int_equal(seconds_until_slow(&pace, 0, false, 1000), 600);
    assert_int_equal(pace.spent_ms, 600000);
    assert_int_equal(seconds_until_slow(&pace, PACE_BYTES_PER_S_MIN / 10 + 1, false, 10000), 10000);
    /* a disk that took a minute */
    pace_init(&pace, WINDOW_MS, 0);
    assert_true(pace_is_fine(&pace, 0, 0, true));
    assert_true(pace_is_fine(&pace, 3600000, 0, true));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_window),
        cmocka_unit_test(test_each_window_counts_alone),
        cmocka_unit_test(test_time_that_is_not_the_servers),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
