/* Choice of an endpoint. */
#include "gateway/balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct route_load loads[4];
static struct route_endpoint endpoints[] = {{.load = &loads[0]}, {.load = &loads[1]}, {.load = &loads[2]}, {.load = &loads[3]}};

static struct route_model *model_of(size_t count) {
    struct route_model *model = route_model_new("m", count);
    for (size_t i = 0; i < count; i++) {
        atomic_store(&endpoints[i].refs, 100);
        model->endpoints[model->endpoint_count++] = &endpoints[i];
    }
    return model;
}

static void test_table(void **state) {
    (void)state;
    static const struct {
        size_t count;
        unsigned outstanding[4];
        int excluded[3]; /* indexes, -1 = none */
        uint64_t rotation;
        int expected; /* index, -1 = none */
    } rows[] = {
        {0, {0}, {-1, -1, -1}, 0, -1},
        {1, {9}, {-1, -1, -1}, 5, 0},
        {3, {2, 1, 3}, {-1, -1, -1}, 0, 1},
        {3, {2, 1, 3}, {1, -1, -1}, 0, 0},
        {3, {2, 1, 3}, {1, 0, -1}, 0, 2},
        {3, {2, 1, 3}, {1, 0, 2}, 0, -1},
        {4, {5, 1, 5, 1}, {-1, -1, -1}, 0, 1}, /* ties go round */
        {4, {5, 1, 5, 1}, {-1, -1, -1}, 1, 3},
        {4, {5, 1, 5, 1}, {-1, -1, -1}, 2, 1},
        {4, {5, 1, 5, 1}, {3, -1, -1}, 1, 1},
        {4, {1, 1}, {-1, -1, -1}, 1, 3},
        {3, {0, 0, 0}, {-1, -1, -1}, UINT64_MAX, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct route_model *model = model_of(rows[i].count);
        for (size_t j = 0; j < 4; j++) {
            atomic_store(&loads[j].outstanding, rows[i].outstanding[j]);
        }
        struct balance_question question = {.model = model, .rotation = rows[i].rotation};
        for (size_t j = 0; j < 3 && rows[i].excluded[j] >= 0; j++) {
            question.excluded[question.excluded_count++] = &endpoints[rows[i].excluded[j]];
        }
        const struct route_endpoint *chosen = balance_choose(&question);
        assert_int_equal(chosen != NULL ? (int)(chosen - endpoints) : -1, rows[i].expected);
        route_model_unref(model);
    }
}

/* Whatever the speeds, with counters kept as the proxy keeps them, no endpoint gets more than one ahead of the others at the start.
 */
static void test_spreads_evenly(void **state) {
    (void)state;
    struct route_model *model = model_of(4);
    memset(loads, 0, sizeof(loads));
    for (uint64_t i = 0; i < 400; i++) {
        struct balance_question question = {.model = model, .rotation = i * 7};
        atomic_fetch_add(&balance_choose(&question)->load->outstanding, 1);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(atomic_load(&loads[i].outstanding), 100);
    }
    route_model_unref(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_spreads_evenly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
