#include "cluster/api/documents.h"

struct field {
    const char *name;
    const char *type;
    const char *description;
};

static json_t *schema_of(const char *type, const char *description) {
    return json_pack("{s:s, s:s}", "type", type, "description", description);
}

static json_t *properties_of(const struct field *fields, size_t count) {
    json_t *properties = json_object();
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(properties, fields[i].name, schema_of(fields[i].type, fields[i].description));
    }
    return properties;
}

static json_t *object_schema(const char *description, json_t *properties) {
    return json_pack("{s:s, s:s, s:o}", "type", "object", "description", description, "properties", properties);
}

static json_t *string_map(const char *description) {
    return json_pack("{s:s, s:s, s:{s:s}}", "type", "object", "description", description, "additionalProperties", "type", "string");
}

static json_t *list_of(json_t *items, const char *description) {
    return json_pack("{s:s, s:s, s:o}", "type", "array", "description", description, "items", items);
}

static json_t *spec_schema(void) {
    static const struct field fields[] = {
        {"artifactURL", "string",
         "Where the adapter's weights are: /path, huggingface://org/repo, s3://..., gs://..., https://..."},
        {"baseModel", "string", "The base model that the adapter was trained on."},
        {"schedulerName", "string", "Policy that chooses pods."},
        {"replicas", "integer", "Number of pods that hold the adapter; absent: every pod that matches podSelector."},
    };
    static const struct field secret[] = {{"name", "string", "Name of the Secret, in the adapter's namespace."}};
    static const struct field expression[] = {{"key", "string", "Label key."},
                                              {"operator", "string", "In, NotIn, Exists or DoesNotExist."}};
    json_t *properties = properties_of(fields, ARRAY_LEN(fields));
    json_t *requirement = properties_of(expression, ARRAY_LEN(expression));
    json_object_set_new(requirement, "values", list_of(json_pack("{s:s}", "type", "string"), "Values of In and NotIn."));
    json_t *selector = json_object();
    json_object_set_new(selector, "matchLabels", string_map("Labels that pods must have."));
    json_object_set_new(selector, "matchExpressions",
                        list_of(object_schema("A requirement.", requirement), "Requirements that pods must meet."));
    json_object_set_new(properties, "podSelector", object_schema("Pods of the base model that may hold the adapter.", selector));
    json_object_set_new(properties, "credentialsSecretRef",
                        object_schema("Secret with the credentials for artifactURL.", properties_of(secret, ARRAY_LEN(secret))));
    json_object_set_new(properties, "additionalConfig", string_map("Further settings; \"api-key\": the engine's key."));
    json_t *schema = object_schema("What is wanted.", properties);
    json_object_set_new(schema, "required", json_pack("[s,s]", "artifactURL", "podSelector"));
    return schema;
}

static json_t *status_schema(void) {
    static const struct field fields[] = {
        {"phase", "string", "Pending, Scheduled, Running, Failed, ..."},
        {"observedGeneration", "integer", "The generation that this status describes."},
        {"candidates", "integer", "Ready pods that match podSelector."},
        {"desiredReplicas", "integer", "Pods that are to hold the adapter."},
        {"readyReplicas", "integer", "Pods that hold it and answered with it."},
    };
    static const struct field condition[] = {
        {"type", "string", "Initialized, Scheduled, Bound, ResourceCreated, Ready, FullyLoaded, ..."},
        {"status", "string", "True, False or Unknown."},
        {"reason", "string", "One word."},
        {"message", "string", "For people."},
        {"lastTransitionTime", "string", "When status changed."},
        {"observedGeneration", "integer", "The generation that it describes."},
    };
    static const struct field load[] = {
        {"pod", "string", "Name of the pod."},
        {"state", "string", "What the adapter is doing there."},
        {"revision", "string", "Revision of the weights."},
        {"loadMillis", "integer", "How long loading took."},
        {"reason", "string", "One word."},
        {"message", "string", "For people."},
    };
    json_t *properties = properties_of(fields, ARRAY_LEN(fields));
    json_object_set_new(properties, "instances",
                        list_of(json_pack("{s:s}", "type", "string"), "Names of the pods that hold the adapter."));
    json_object_set_new(properties, "conditions",
                        list_of(object_schema("A condition.", properties_of(condition, ARRAY_LEN(condition))), "Conditions."));
    json_object_set_new(
        properties, "loads",
        list_of(object_schema("One pod.", properties_of(load, ARRAY_LEN(load))), "The adapter on each pod, at most 100."));
    return object_schema("What was observed.", properties);
}

json_t *schema_model_adapter(void) {
    static const struct field fields[] = {
        {"apiVersion", "string", "model.aibrix.ai/v1alpha1"},
        {"kind", "string", "ModelAdapter"},
    };
    json_t *properties = properties_of(fields, ARRAY_LEN(fields));
    json_object_set_new(properties, "metadata", object_schema("Standard object's metadata.", json_object()));
    json_object_set_new(properties, "spec", spec_schema());
    json_object_set_new(properties, "status", status_schema());
    return object_schema("ModelAdapter is a LoRA adapter that is loaded into the pods of its base model and requested by its name.",
                         properties);
}
