/* Short names of options; the long ones are in test_base.c. */
#include "base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *arguments[6];
    int positional; /* -1 = refused */
    const char *name;
    bool flag;
    const char *first;   /* positional */
    const char *message; /* of the error */
} cases[] = {
    {{"-n", "prod"}, 0, "prod", false, NULL, NULL},
    {{"-nprod"}, 0, "prod", false, NULL, NULL},
    {{"-n=prod"}, 0, "prod", false, NULL, NULL},
    {{"-n", "-A"}, 0, "-A", false, NULL, NULL},
    {{"adapters", "-A", "-n", "prod"}, 1, "prod", true, "adapters", NULL},
    {{"-A", "adapters"}, 1, NULL, true, "adapters", NULL},
    {{"--name", "prod", "--flag"}, 0, "prod", true, NULL, NULL},
    {{"--", "-A"}, 1, NULL, false, "-A", NULL},
    {{"-Ax"}, 1, NULL, false, "-Ax", NULL}, /* no option: for the command to judge */
    {{"-"}, 1, NULL, false, "-", NULL},
    {{"-x"}, 1, NULL, false, "-x", NULL},
    {{"-n"}, -1, NULL, false, NULL, "-n: a value is missing"},
    {{"-c", "many"}, -1, NULL, false, NULL, "-c: expected a whole number, found \"many\""},
};

static void test_short_names(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *name = NULL;
        bool flag = false;
        int64_t number = 0;
        const struct option_spec table[] = {
            {.name = "name", .short_name = 'n', .type = OPTION_STRING, .target = &name},
            {.name = "flag", .short_name = 'A', .type = OPTION_FLAG, .target = &flag},
            {.name = "count", .short_name = 'c', .type = OPTION_INT, .target = &number},
            {.name = "plain", .type = OPTION_FLAG, .target = &flag},
            {0},
        };
        char *arguments[8] = {(char *)"get"};
        int count = 1;
        while (cases[i].arguments[count - 1] != NULL) {
            arguments[count] = (char *)cases[i].arguments[count - 1];
            count++;
        }
        struct error err = {0};
        bool wants_help = false;
        assert_int_equal(options_parse(table, count, arguments, &wants_help, &err), cases[i].positional);
        if (cases[i].positional < 0) {
            assert_string_equal(err.message, cases[i].message);
            continue;
        }
        assert_int_equal(name != NULL, cases[i].name != NULL);
        assert_string_equal(name != NULL ? name : "", cases[i].name != NULL ? cases[i].name : "");
        assert_int_equal(flag, cases[i].flag);
        assert_string_equal(cases[i].positional > 0 ? arguments[1] : "", cases[i].first != NULL ? cases[i].first : "");
    }
}

static void test_help_shows_them(void **state) {
    (void)state;
    const char *name = NULL;
    const struct option_spec table[] = {
        {.name = "name", .short_name = 'n', .type = OPTION_STRING, .target = &name, .value_name = "NAME", .help = "who"},
        {.name = "other", .type = OPTION_STRING, .target = &name, .value_name = "NAME", .help = "who else"},
        {0},
    };
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    options_print_help(table, "davit get", "Shows.", out);
    (void)fclose(out);
    assert_non_null(strstr(text, "  -n, --name NAME "));
    assert_non_null(strstr(text, "  --other NAME "));
    free(text);
}

static void test_durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -1 = refused */
    } rows[] = {{"15s", 15000}, {"500ms", 500}, {"1m30s", 90000}, {"2h", 7200000}, {"1.5s", 1500}, {"0s", 0},
                {"15", -1},     {"", -1},       {"s", -1},        {"1d", -1},      {"-1s", -1},    {"1s ", -1}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t ms = -1;
        const struct option_spec table[] = {{.name = "period", .type = OPTION_DURATION, .target = &ms}, {0}};
        char *arguments[] = {(char *)"controller", (char *)"--period", (char *)rows[i].text, NULL};
        struct error err = {0};
        bool wants_help = false;
        int result = options_parse(table, 3, arguments, &wants_help, &err);
        if ((result < 0) != (rows[i].ms < 0) || ms != rows[i].ms) {
            fail_msg("\"%s\": result %d, %lld ms", rows[i].text, result, (long long)ms);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_names),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_help_shows_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
