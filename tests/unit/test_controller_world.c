/* What the controller reads of pods, how it writes Services and EndpointSlices, where it places, and what a hold makes of lists. */
#include "adapter/placement.h"
#include "controller/known_names.h"
#include "controller/pod_facts.h"
#include "controller/publish.h"
#include "controller/redact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static json_t *parse(const char *text) {
    json_t *value = json_loads(text, 0, NULL);
    assert_non_null(value);
    return value;
}

static void test_pod_facts(void **state) {
    (void)state;
    static const struct {
        const char *pod;
        bool is_ready, is_gone, has_sidecar;
        int engine_port, sidecar_port;
        enum dialect engine;
    } cases[] = {
        {"{}", false, false, false, 8000, 8080, DIALECT_VLLM},
        {"{\"status\":{\"podIP\":\"10.0.0.1\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}", true, false, false,
         8000, 8080, DIALECT_VLLM},
        {"{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}", false, false, false, 8000, 8080, DIALECT_VLLM},
        {"{\"metadata\":{\"deletionTimestamp\":\"x\"},\"status\":{\"podIP\":\"10.0.0.1\",\"conditions\":[{\"type\":\"Ready\","
         "\"status\":\"True\"}]}}",
         false, true, false, 8000, 8080, DIALECT_VLLM},
        {"{\"status\":{\"phase\":\"Failed\"}}", false, true, false, 8000, 8080, DIALECT_VLLM},
        {"{\"metadata\":{\"labels\":{\"model.aibrix.ai/port\":\"9000\",\"model.aibrix.ai/engine\":\"sglang\"}}}", false, false,
         false, 9000, 8080, DIALECT_SGLANG},
        {"{\"metadata\":{\"labels\":{\"model.aibrix.ai/port\":\"90000\"}}}", false, false, false, 8000, 8080, DIALECT_VLLM},
        {"{\"metadata\":{\"labels\":{\"model.aibrix.ai/port\":\"api\"}},\"spec\":{\"containers\":[{\"name\":\"aibrix-runtime\","
         "\"ports\":[{\"containerPort\":8090}]},{\"name\":\"engine\",\"ports\":[{\"name\":\"metrics\",\"containerPort\":1},{"
         "\"name\":\"api\",\"containerPort\":9100}]}]}}",
         false, false, true, 9100, 8090, DIALECT_VLLM},
        {"{\"metadata\":{\"labels\":{\"model.aibrix.ai/"
         "port\":\"none\"}},\"spec\":{\"containers\":[{\"name\":\"engine\",\"ports\":[{"
         "\"name\":\"api\",\"containerPort\":9100}]}]}}",
         false, false, false, 8000, 8080, DIALECT_VLLM},
        {"{\"spec\":{\"containers\":[{\"name\":\"engine\"},{\"name\":\"aibrix-runtime\"}]}}", false, false, true, 8000, 8080,
         DIALECT_VLLM},
        {"{\"spec\":{\"containers\":[{\"name\":\"aibrix-runtime\",\"ports\":[{\"containerPort\":8090}]}]}}", false, false, true,
         8000, 8090, DIALECT_VLLM},
        {"{\"spec\":{\"initContainers\":[{\"name\":\"aibrix-runtime\"}]}}", false, false, false, 8000, 8080, DIALECT_VLLM},
        {"{\"spec\":{\"initContainers\":[{\"name\":\"aibrix-runtime\",\"restartPolicy\":\"Always\"}]}}", false, false, true, 8000,
         8080, DIALECT_VLLM},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *pod = parse(cases[i].pod);
        struct pod_facts facts;
        pod_facts_read(pod, &facts);
        if (facts.is_ready != cases[i].is_ready || facts.is_gone != cases[i].is_gone || facts.has_sidecar != cases[i].has_sidecar ||
            facts.engine_port != cases[i].engine_port || facts.sidecar_port != cases[i].sidecar_port ||
            facts.engine != cases[i].engine) {
            fail_msg("%s", cases[i].pod);
        }
        json_decref(pod);
    }
}

static void test_start_is_the_engines(void **state) {
    (void)state;
    static const char pod[] =
        "{\"metadata\":{\"uid\":\"u\"},\"status\":{\"containerStatuses\":[{\"name\":\"engine\",\"restartCount\":%d,\"state\":{"
        "\"running\":{\"startedAt\":\"t\"}}},{\"name\":\"aibrix-runtime\",\"restartCount\":%d}]}}";
    char text[3][400];
    char *starts[3];
    snprintf(text[0], sizeof(text[0]), pod, 0, 0);
    snprintf(text[1], sizeof(text[1]), pod, 0, 5); /* the sidecar's restart leaves the engine as it was */
    snprintf(text[2], sizeof(text[2]), pod, 1, 0);
    for (int i = 0; i < 3; i++) {
        json_t *object = parse(text[i]);
        starts[i] = pod_facts_start(object);
        json_decref(object);
    }
    assert_string_equal(starts[0], starts[1]);
    assert_string_not_equal(starts[0], starts[2]);
    for (int i = 0; i < 3; i++) {
        free(starts[i]);
    }
}

/* The only slice that is written, or NULL. */
static json_t *write_slice(const struct plan_input *input, const bool *serving, const json_t *slice) {
    const json_t *slices[PLAN_SLICES_MAX] = {slice};
    struct plan plan = {0};
    publish_slices(input, serving, slices, &plan);
    assert_in_range(plan.slice_count, 0, 1);
    if (plan.slice_count == 0) {
        return NULL;
    }
    assert_string_equal(plan.slices[0].name, "sql");
    assert_int_equal(plan.slices[0].is_create, slice == NULL);
    json_t *body = json_incref(plan.slices[0].body);
    plan_release(&plan);
    return body;
}

static void test_objects(void **state) {
    (void)state;
    json_t *object = parse("{\"apiVersion\":\"model.aibrix.ai/"
                           "v1alpha1\",\"kind\":\"ModelAdapter\",\"metadata\":{\"name\":\"sql\",\"namespace\":\"ns\","
                           "\"uid\":\"u\"},\"spec\":{\"baseModel\":\"org/base\",\"artifactURL\":\"/"
                           "a\",\"podSelector\":{\"matchLabels\":{\"a\":\"b\"}}}}");
    struct model_adapter adapter;
    assert_int_equal(model_adapter_read(object, &adapter, NULL), 0);
    struct hold *hold = hold_new();
    hold->state = HOLD_LOADED;
    struct plan_pod pods[] = {{.name = "p0",
                               .hold = hold,
                               .uid = "u0",
                               .ip = "10.0.0.1",
                               .second_ip = "",
                               .node = "n0",
                               .zone = "z0",
                               .engine_port = 9000,
                               .matches = true},
                              {.name = "p1",
                               .hold = hold,
                               .uid = "u1",
                               .ip = "10.0.0.2",
                               .second_ip = "",
                               .node = "",
                               .zone = "",
                               .engine_port = 9000,
                               .matches = true}};
    struct plan_input input = {.object = object, .adapter = &adapter, .pods = pods, .pod_count = 2};
    bool serving[] = {true, false};
    json_t *service = publish_service(&input, serving, NULL);
    json_t *wanted = parse(
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"sql\",\"namespace\":\"ns\",\"labels\":{"
        "\"adapter.model.aibrix.ai/name\":\"sql\"},\"ownerReferences\":[{\"apiVersion\":\"model.aibrix.ai/v1alpha1\",\"kind\":"
        "\"ModelAdapter\",\"name\":\"sql\",\"uid\":\"u\",\"controller\":true,\"blockOwnerDeletion\":true}]},\"spec\":{"
        "\"clusterIP\":"
        "\"None\",\"publishNotReadyAddresses\":true,\"ports\":[{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":9000,"
        "\"targetPort\":9000}]}}");
    assert_true(json_equal(service, wanted));
    json_t *slice = write_slice(&input, serving, NULL);
    assert_string_equal(json_string_at(slice, "addressType", ""), "IPv4");
    assert_int_equal(json_array_size(json_at(slice, "endpoints")), 1);
    json_t *endpoint =
        parse("{\"addresses\":[\"10.0.0.1\"],\"conditions\":{\"ready\":true,\"serving\":true,\"terminating\":false},\"targetRef\":{"
              "\"kind\":\"Pod\",\"namespace\":\"ns\",\"name\":\"p0\",\"uid\":\"u0\"},\"nodeName\":\"n0\",\"zone\":\"z0\"}");
    assert_true(json_equal(json_array_get(json_at(slice, "endpoints"), 0), endpoint));
    /* What is there already is not written again, whatever the API added. */
    json_object_set_new(json_at(service, "spec"), "clusterIPs", json_pack("[s]", "None"));
    json_object_set_new(json_at(slice, "metadata"), "generation", json_integer(1));
    assert_null(publish_service(&input, serving, service));
    assert_null(write_slice(&input, serving, slice));
    uint64_t digest = publish_digest(&input, serving);
    serving[1] = true;
    assert_true(digest != publish_digest(&input, serving));
    json_t *patch = write_slice(&input, serving, slice);
    assert_int_equal(json_array_size(json_at(patch, "endpoints")), 2);
    assert_null(json_at(patch, "ports"));
    json_decref(patch);
    assert_true(publish_has_pod(slice, "u0", "10.0.0.1"));
    assert_false(publish_has_pod(slice, "u0-replaced", "10.0.0.1"));
    json_array_clear(json_at(slice, "metadata.ownerReferences"));
    assert_true(publish_is_foreign(object, slice));
    hold_free(hold);
    json_decref(endpoint);
    json_decref(wanted);
    json_decref(service);
    json_decref(slice);
    model_adapter_release(&adapter);
    json_decref(object);
}

static json_t *annotations_of(const json_t *body) {
    return json_object_get(json_object_get(body, "metadata"), "annotations");
}

/* The name on an engine is written with the endpoint and goes with it. */
static void test_names_on_engines_are_published(void **state) {
    (void)state;
    static const char names[] = "adapter.model.aibrix.ai/engine-names",
                      both[] = "{\"p0\":\"sql_89abcdef\",\"p1\":\"sql_01234567\"}";
    json_t *object = parse("{\"metadata\":{\"name\":\"sql\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":{}}");
    struct model_adapter adapter = {.name = "sql", .namespace = "ns", .uid = "u", .base_model = ""};
    struct hold holds[] = {{.state = HOLD_LOADED, .tag = "89abcdef"}, {.state = HOLD_MAYBE, .tag = "ffffffff"}};
    struct plan_pod pods[2];
    for (size_t i = 0; i < 2; i++) {
        pods[i] = (struct plan_pod){.name = i == 0 ? "p0" : "p1",
                                    .uid = i == 0 ? "u0" : "u1",
                                    .ip = i == 0 ? "10.0.0.1" : "10.0.0.2",
                                    .second_ip = "",
                                    .node = "",
                                    .zone = "",
                                    .engine_port = 8000,
                                    .hold = &holds[i]};
    }
    memcpy(pods[1].published_tag, "01234567", ENGINE_TAG_BYTES); /* one that was not asked yet: as it is published */
    struct plan_input input = {.object = object, .adapter = &adapter, .pods = pods, .pod_count = 2};
    bool serving[] = {true, true};
    json_t *slice = write_slice(&input, serving, NULL);
    assert_string_equal(json_string_value(json_object_get(annotations_of(slice), names)), both);
    json_t *read = publish_names(slice);
    char tag[ENGINE_TAG_BYTES];
    publish_tag_in(read, "sql", "p0", tag);
    assert_string_equal(tag, "89abcdef");
    publish_tag_in(read, "sq", "p0", tag); /* of another adapter */
    assert_string_equal(tag, "");
    publish_tag_in(read, "sql", "p2", tag);
    assert_string_equal(tag, "");
    json_decref(read);
    assert_null(write_slice(&input, serving, slice));
    uint64_t digest = publish_digest(&input, serving);
    holds[0].tag[0] = '\0'; /* under its own name */
    assert_true(digest != publish_digest(&input, serving));
    json_t *patch = write_slice(&input, serving, slice);
    assert_string_equal(json_string_value(json_object_get(annotations_of(patch), names)), "{\"p1\":\"sql_01234567\"}");
    assert_null(json_at(patch, "endpoints"));
    json_decref(patch);
    serving[1] = false;
    patch = write_slice(&input, serving, slice);
    assert_true(json_is_null(json_object_get(annotations_of(patch), names)));
    assert_int_equal(json_array_size(json_at(patch, "endpoints")), 1);
    json_decref(patch);
    json_decref(slice);
    json_decref(object);
}

/* ---- names with tags ---- */

struct card {
    const char *id, *root;
    bool is_base;
};

static const struct dialect_model *find_card(const void *list, const char *id) {
    static struct dialect_model found;
    for (const struct card *card = list; card->id != NULL; card++) {
        if (strcmp(card->id, id) == 0) {
            found = (struct dialect_model){
                .id = (char *)card->id, .root = (char *)card->root, .parent = card->is_base ? NULL : (char *)"base"};
            return &found;
        }
    }
    return NULL;
}

#define TAGGED_NEW "0123456789abcdef01234567" /* tag 89abcdef */
#define TAGGED_OLD "1111111122222222aaaaaaaa" /* tag 22222222 */

static void test_which_of_several_names(void **state) {
    (void)state;
    static const struct {
        const char *adapter;
        const char *wanted; /* tag */
        const char *held;   /* "+" = and it serves */
        struct card list[4];
        const char *chosen; /* tag; NULL = none */
        const char *other;  /* NULL = none */
    } cases[] = {
        {"sql", "", "", {{"sql", "/a", false}}, "", NULL},
        {"sql", "89abcdef", "", {{"sql_89abcdef", "/a", false}}, "89abcdef", NULL},
        /* The flag was switched, either way; or an older revision came late. */
        {"sql", "89abcdef", "", {{"sql", "/a", false}}, "", NULL},
        {"sql", "", "", {{"sql_89abcdef", "/a", false}}, "89abcdef", NULL},
        {"sql", "89abcdef", "89abcdef", {{"sql_89abcdef", "/a", false}, {"sql", "/a", false}}, "", "89abcdef"},
        {"sql", "89abcdef", "89abcdef", {{"sql_89abcdef", "/a", false}, {"sql_22222222", "/z", false}}, "22222222", "89abcdef"},
        /* ... beside one that serves */
        {"sql", "89abcdef", "+89abcdef", {{"sql_89abcdef", "/a", false}, {"sql_22222222", "/z", false}}, "89abcdef", "22222222"},
        {"sql", "89abcdef", "+", {{"sql_89abcdef", "/a", false}, {"sql", "/a", false}}, "", "89abcdef"}, /* rolled first */
        {"sql", "89abcdef", "22222222", {{"sql", "/a", false}, {"sql_22222222", "/z", false}}, "22222222", ""},
        {"sql", "", "77777777", {{"sql_77777777", "/z", false}}, "77777777", NULL}, /* which only the hold knows */
        /* Nobody's. */
        {"sql", "89abcdef", "", {{"sql_33333333", "/a", false}}, NULL, NULL},
        {"sql", "", "", {{"sql_33333333", "/a", false}}, NULL, NULL},
        {"sql", "89abcdef", "89abcdef", {{"sql_89abcdef", "/a", false}, {"sql", "/other", false}}, "89abcdef", NULL},
        {"sql", "89abcdef", "", {{"sql", "/base", true}}, "", NULL}, /* a conflict */
        /* An object that another API server may have taken: no name of an engine is its. */
        {"sql_89abcdef", "", "", {{"sql_89abcdef", "/a", false}}, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct known_names names;
        struct hold hold = {.state = HOLD_LOADED};
        struct hold_target target = {.name = cases[i].adapter, .artifact_url = "/a", .revision = TAGGED_NEW, .known = TAGGED_OLD};
        struct hold_listing listing = {.asked_ms = 1};
        hold.is_proved = cases[i].held[0] == '+';
        snprintf(hold.tag, sizeof(hold.tag), "%s", cases[i].held + hold.is_proved);
        snprintf(target.tag, sizeof(target.tag), "%s", cases[i].wanted);
        known_names_init(&names, cases[i].adapter, TAGGED_NEW, TAGGED_OLD);
        known_names_look(&names, &target, &hold, find_card, cases[i].list, &listing);
        if (listing.is_listed != (cases[i].chosen != NULL) || listing.is_several != (cases[i].other != NULL) ||
            (listing.is_listed && strcmp(listing.tag, cases[i].chosen) != 0) ||
            (listing.is_several && strcmp(listing.other, cases[i].other) != 0)) {
            fail_msg("row %zu: listed %d, tag \"%s\", several %d, other \"%s\"", i, listing.is_listed, listing.tag,
                     listing.is_several, listing.other);
        }
    }
}

static void test_a_name_with_a_tag_says_the_revision(void **state) {
    (void)state;
    static const struct {
        const char *root, *tag, *revision;
        bool is_base;
        enum hold_state state;
    } cases[] = {
        {"/a/sql", "89abcdef", TAGGED_NEW, false, HOLD_LOADED},
        {"/a/other", "89abcdef", TAGGED_NEW, false, HOLD_CONFLICT}, /* somebody else's weights under our name */
        {"/a/other", "22222222", TAGGED_OLD, false, HOLD_LOADED},   /* an old one's root is not known any more */
        {"/a/sql", "89abcdef", TAGGED_NEW, true, HOLD_CONFLICT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hold *hold = hold_new();
        hold_meet(hold, "s");
        struct hold_target target = {.name = "sql", .artifact_url = "/a/sql", .revision = TAGGED_NEW, .tag = "89abcdef"};
        struct hold_listing listing = {
            .is_listed = true, .root = cases[i].root, .is_base = cases[i].is_base, .asked_ms = 1, .start = "s"};
        snprintf(listing.tag, sizeof(listing.tag), "%s", cases[i].tag);
        snprintf(listing.revision, sizeof(listing.revision), "%s", cases[i].revision);
        hold_observe(hold, &target, &listing);
        assert_int_equal(hold->state, cases[i].state);
        assert_true(hold->state != HOLD_LOADED || hold_is_of(hold, cases[i].revision, cases[i].tag));
        hold_free(hold);
    }
}

/* What the adapter's own name had before one with a tag is not remembered: back under it the weights may be stale. */
static void test_only_the_own_name_can_be_stale(void **state) {
    (void)state;
    struct dialect_answer done = {.outcome = DIALECT_DONE};
    struct hold *hold = hold_new();
    hold_meet(hold, "s");
    hold_begin(hold, HOLD_LOADING, TAGGED_OLD, "");
    hold_note_load(hold, TAGGED_OLD, &done, 1, 1);
    assert_false(hold->is_in_place);
    hold_note_unload(hold, &done, 2);
    hold_begin(hold, HOLD_LOADING, TAGGED_NEW, "89abcdef");
    hold_note_load(hold, TAGGED_NEW, &done, 1, 3);
    hold_note_unload(hold, &done, 4);
    hold_begin(hold, HOLD_LOADING, TAGGED_NEW, "");
    hold_note_load(hold, TAGGED_NEW, &done, 1, 5);
    assert_true(hold->is_in_place);
    hold_meet(hold, "t");
    assert_false(hold->is_in_place);
    hold_free(hold);
}

static void test_revisions_are_remembered(void **state) {
    (void)state;
    char *list = xstrdup("");
    for (int i = 0; i < 2 * RECALL_REVISIONS_MAX; i++) {
        char revision[REVISION_BYTES];
        snprintf(revision, sizeof(revision), "%024x", i);
        recall_remember(&list, revision);
    }
    recall_remember(&list, "00000000000000000000000a");
    recall_remember(&list, "");
    char each[REVISION_BYTES];
    int count = 0;
    for (const char *at = list; (at = recall_next(at, each)) != NULL; count++) {
        assert_string_equal(each, count == 0   ? "00000000000000000000000a"
                                  : count == 1 ? "00000000000000000000000f"
                                  : count == 7 ? "000000000000000000000008"
                                               : each);
    }
    assert_int_equal(count, RECALL_REVISIONS_MAX);
    free(list);
}

static void test_placement(void **state) {
    (void)state;
    struct placement_candidate candidates[] = {{.pod = "a", .node = "n0", .adapters = 3},
                                               {.pod = "b", .node = "n0", .adapters = 1},
                                               {.pod = "c", .node = "n1", .adapters = 2},
                                               {.pod = "d", .node = "n1", .adapters = 9, .is_holding = true},
                                               {.pod = "e", .node = "n2", .is_failing = true}};
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++) {
        candidates[i].domain = i < 4 ? "east" : "west";
    }
    static const struct {
        enum placement_policy policy;
        int replicas;
        const char *chosen;
    } cases[] = {
        {PLACEMENT_LEAST_ADAPTERS, 0, ""},    {PLACEMENT_LEAST_ADAPTERS, 1, "d"},     {PLACEMENT_LEAST_ADAPTERS, 2, "bd"},
        {PLACEMENT_LEAST_ADAPTERS, 3, "bcd"}, {PLACEMENT_LEAST_ADAPTERS, 9, "abcde"}, {PLACEMENT_BIN_PACK, 2, "ad"},
        {PLACEMENT_SPREAD, 2, "bd"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char chosen[8] = "";
        placement_choose(cases[i].policy, "uid", cases[i].replicas, candidates, ARRAY_LEN(candidates));
        for (size_t k = 0; k < ARRAY_LEN(candidates); k++) {
            snprintf(chosen + strlen(chosen), sizeof(chosen) - strlen(chosen), "%s",
                     candidates[k].is_chosen ? candidates[k].pod : "");
        }
        assert_string_equal(chosen, cases[i].chosen);
    }
    enum placement_policy policy;
    assert_int_equal(placement_policy_parse("binPack", &policy), 0);
    assert_int_equal(placement_policy_parse("leastLatency", &policy), -1);
}

static void test_whose_is_listed(void **state) {
    (void)state;
    static const char revision[] = "0123456789abcdef01234567";
    static const struct {
        bool uses_sidecar;
        const char *url, *root;
        bool is_base;
        enum hold_state state;
        bool is_current;
    } cases[] = {
        {false, "/a/sql", "/a/sql", false, HOLD_LOADED, true},
        {false, "/a/sql", "/a/sql/", false, HOLD_LOADED, true},
        {false, "/a/sql", "/a/other", false, HOLD_CONFLICT, false},
        {false, "/a/sql", "/models/sql", true, HOLD_CONFLICT, false},
        {false, "/a/sql", "", false, HOLD_LOADED, false},
        {false, "huggingface://o/r", "o/r", false, HOLD_LOADED, true},
        {false, "huggingface://o/r", "o/x", false, HOLD_CONFLICT, false},
        {true, "/a/sql", "/a/sql", false, HOLD_LOADED, true},
        {true, "/a/sql", "/cache/sql/0123456789abcdef01234567", false, HOLD_LOADED, true},
        {true, "/a/sql", "/cache/sql/ffffffffffffffffffffffff", false, HOLD_LOADED, false},
        {true, "s3://b/k", "/cache/sql/0123456789abcdef01234567/x", false, HOLD_LOADED, true},
        {true, "s3://b/k", "/tmp/aibrix/adapters/sql", false, HOLD_LOADED, false},
        {true, "/a/sql", "/b/other", false, HOLD_CONFLICT, false},
        {false, "s3://b/k", "s3://b/k", false, HOLD_CONFLICT, false}, /* which only Davit's engine fetches: not by us */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hold *hold = hold_new();
        hold_meet(hold, "s");
        struct hold_target target = {
            .name = "sql", .artifact_url = cases[i].url, .revision = revision, .uses_sidecar = cases[i].uses_sidecar};
        struct hold_listing listing = {
            .is_listed = true, .root = cases[i].root, .is_base = cases[i].is_base, .asked_ms = 1, .start = "s"};
        hold_observe(hold, &target, &listing);
        if (hold->state != cases[i].state || (strcmp(hold->revision, revision) == 0) != cases[i].is_current) {
            fail_msg("%s listed as %s: state %d revision \"%s\"", cases[i].url, cases[i].root, hold->state, hold->revision);
        }
        hold_free(hold);
    }
}

/* Davit's engine lists the URL that it was given, or what may be shown of it. */
static void test_whose_is_listed_by_davits_engine(void **state) {
    (void)state;
    static const struct {
        const char *url, *revision, *root;
        enum hold_state state;
    } cases[] = {
        {"s3://b/k", "", "s3://b/k/", HOLD_LOADED},
        {"s3://b/k", "", "s3://b/other", HOLD_CONFLICT},
        {"/a/sql", "", "/a/sql", HOLD_LOADED},
        {"hf://o/r", "", "hf://o/r", HOLD_LOADED},
        {"hf://o/r", "", "o/r", HOLD_LOADED}, /* as every engine takes it */
        {"hf://o/r/f", "v1", "hf://o/r@v1/f", HOLD_LOADED},
        {"hf://o/r/f", "v1", "hf://o/r/f", HOLD_CONFLICT},
        {"hf://o/r", "v1", "o/r", HOLD_CONFLICT},
        {"https://user:word@h/a", "", "https://h/a", HOLD_LOADED},
        {"https://h/a?sig=1", "", "https://h/a?sha256=b2e57c96eb980935", HOLD_LOADED},
        {"https://h/a?sig=2", "", "https://h/a?sha256=b2e57c96eb980935", HOLD_CONFLICT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hold *hold = hold_new();
        hold_meet(hold, "s");
        struct hold_target target = {.name = "sql",
                                     .artifact_url = cases[i].url,
                                     .source_revision = cases[i].revision,
                                     .revision = "0123456789abcdef01234567",
                                     .is_davit = true};
        struct hold_listing listing = {.is_listed = true, .root = cases[i].root, .asked_ms = 1, .start = "s"};
        hold_observe(hold, &target, &listing);
        if (hold->state != cases[i].state) {
            fail_msg("%s listed as %s: state %d", cases[i].url, cases[i].root, hold->state);
        }
        hold_free(hold);
    }
}

/* The object changed while nobody looked: what was loaded by its old URL is still ours, and outdated. */
static void test_an_earlier_runs_load_is_known(void **state) {
    (void)state;
    struct model_adapter old = {.artifact_url = "/a/sql", .source_revision = "", .digest = "d"}; /* no list tells the digest */
    char earlier[REVISION_BYTES];
    model_adapter_revision(&old, earlier);
    static const struct {
        const char *root;
        enum hold_state state;
    } cases[] = {{"/a/sql", HOLD_LOADED}, {"/a/other", HOLD_CONFLICT}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hold *hold = hold_new();
        hold_meet(hold, "s");
        cleanup_free char *known = xasprintf("fedcba9876543210fedcba98 %s", earlier); /* a roll upon a roll */
        struct hold_target target = {
            .name = "sql", .artifact_url = "/b/sql", .revision = "0123456789abcdef01234567", .known = known};
        struct hold_listing listing = {.is_listed = true, .root = cases[i].root, .asked_ms = 1, .start = "s"};
        hold_observe(hold, &target, &listing);
        assert_int_equal(hold->state, cases[i].state);
        assert_true(hold->state != HOLD_LOADED || strcmp(hold->revision, earlier) == 0);
        hold_free(hold);
    }
}

static void test_lists_that_do_not_count(void **state) {
    (void)state;
    struct hold *hold = hold_new();
    hold_meet(hold, "s");
    struct dialect_answer done = {.outcome = DIALECT_DONE};
    hold_note_load(hold, "r", &done, 5, 100);
    struct hold_target target = {.name = "sql", .artifact_url = "/a", .revision = "r"};
    struct hold_listing before = {.asked_ms = 99, .start = "s"}, other = {.asked_ms = 101, .start = "t"},
                        after = {.asked_ms = 101, .start = "s"};
    hold_observe(hold, &target, &before);
    hold_observe(hold, &target, &other);
    assert_int_equal(hold->state, HOLD_LOADED);
    hold_observe(hold, &target, &after);
    assert_int_equal(hold->state, HOLD_NONE); /* it forgot */
    hold_free(hold);
}

/* From failure to the next try: doubled each time, with jitter, and no longer than that. */
static void test_retries_are_spread_and_bounded(void **state) {
    (void)state;
    static const struct {
        enum dialect_outcome outcome;
        int64_t first_ms, last_ms;
    } cases[] = {{DIALECT_FAILED, 1000, 60000},
                 {DIALECT_UNREACHABLE, 1000, 60000},
                 {DIALECT_BUSY, 1000, 8000},
                 {DIALECT_PERMANENT, 300000, 300000}}; /* waits for a change, and is looked at now and then all the same */
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hold *hold = hold_new();
        struct dialect_answer answer = {.outcome = cases[i].outcome, .message = "no"};
        int64_t delay_ms = cases[i].first_ms, now_ms = 1000000;
        bool is_spread = false;
        hold_meet(hold, "s");
        for (int failures = 1; failures <= 40; failures++) {
            hold_note_load(hold, "r", &answer, 5, now_ms);
            assert_int_equal(hold->failures, failures);
            assert_in_range(hold->retry_at_ms - now_ms, delay_ms * 3 / 4, delay_ms * 5 / 4);
            is_spread |= hold->retry_at_ms - now_ms != delay_ms;
            now_ms = hold->retry_at_ms;
            delay_ms = 2 * delay_ms < cases[i].last_ms ? 2 * delay_ms : cases[i].last_ms;
        }
        assert_true(is_spread);
        hold_note_load(hold, "another", &answer, 5, now_ms); /* a count of its own */
        assert_int_equal(hold->failures, 1);
        hold_free(hold);
    }
}

static void test_secrets_are_overwritten(void **state) {
    (void)state;
    static const struct {
        const char *secret, *text, *left;
    } cases[] = {
        {NULL, "as it was", "as it was"},
        {"abc", "too short: abc", "too short: abc"},
        {"hunter2", "no hunter2, no \"hunter2\"", "no *******, no \"*******\""},
        {"{\"key\": \"-----BEGIN\nMIIEvQIBADAN\n\"}", "body {\\\"key\\\": \\\"-----BEGIN\\nMIIEvQIBADAN\\n\\\"} refused",
         "body {\\\"key\\\": \\\"**********\\n************\\n\\\"} refused"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[200];
        snprintf(text, sizeof(text), "%s", cases[i].text);
        redact_text(text, strlen(text), cases[i].secret);
        assert_string_equal(text, cases[i].left);
    }
}

static void test_where_a_store_is_is_no_secret(void **state) {
    (void)state;
    char text[] = "http://127.0.0.1:8090 us-east-1 http://me:pw@host https://host?sig=1 hf_token";
    cleanup_json json_t *values =
        json_pack("{s:s,s:s,s:s,s:s,s:s}", "hf_endpoint", "http://127.0.0.1:8090", "AWS_REGION", "us-east-1", "endpoint",
                  "http://me:pw@host", "endpoint_url", "https://host?sig=1", "token", "hf_token");
    redact_values(text, strlen(text), values);
    assert_string_equal(text, "http://127.0.0.1:8090 us-east-1 ***************** ****************** ********");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pod_facts),
        cmocka_unit_test(test_start_is_the_engines),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_names_on_engines_are_published),
        cmocka_unit_test(test_which_of_several_names),
        cmocka_unit_test(test_a_name_with_a_tag_says_the_revision),
        cmocka_unit_test(test_only_the_own_name_can_be_stale),
        cmocka_unit_test(test_revisions_are_remembered),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_whose_is_listed),
        cmocka_unit_test(test_whose_is_listed_by_davits_engine),
        cmocka_unit_test(test_an_earlier_runs_load_is_known),
        cmocka_unit_test(test_lists_that_do_not_count),
        cmocka_unit_test(test_retries_are_spread_and_bounded),
        cmocka_unit_test(test_secrets_are_overwritten),
        cmocka_unit_test(test_where_a_store_is_is_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
