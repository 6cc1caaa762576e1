#include "cli/api_list.h"

#include "cluster/up/instance.h"
#include "io/http.h"

#include <unistd.h>

#define PAGE_OBJECTS 500

static void list_page(struct api_list *list, const char *continue_token);

static void on_page(void *arg, json_t *object, const struct error *err) {
    struct api_list *list = arg;
    if (err != NULL) {
        list->err = *err;
        list->has_failed = true;
    } else {
        const char *more = json_string_at(object, "metadata.continue", "");
        json_array_extend(list->items, json_object_get(object, "items"));
        if (*more != '\0') {
            list_page(list, more);
            return;
        }
    }
    list->on_end(list->arg);
}

static void list_page(struct api_list *list, const char *continue_token) {
    cleanup_buffer struct buffer query = BUFFER_INIT;
    buffer_printf(&query, "limit=%d", PAGE_OBJECTS);
    if (continue_token != NULL) {
        buffer_append_text(&query, "&continue=");
        http_append_percent_encoded(&query, continue_token);
    }
    struct kube_request request = {
        .verb = KUBE_LIST,
        .resource = list->resource,
        .namespace = list->namespace,
        .query = query.data,
        .on_done = on_page,
        .arg = list,
    };
    (void)kube_start(list->client, &request);
}

void api_list_start(struct api_list *list) {
    list->items = json_array();
    list->has_failed = false;
    list_page(list, NULL);
}

int api_find_kubeconfig(const char *path, const char *dir, char **ret_path, struct error *err) {
    const char *env = getenv("KUBECONFIG");
    if (path != NULL) {
        *ret_path = xstrdup(path);
        return 0;
    }
    if (dir == NULL && env != NULL && *env != '\0') {
        *ret_path = NULL;
        return 0;
    }
    cleanup_free char *directory = NULL;
    if (instance_directory(dir != NULL ? dir : getenv("DAVIT_DIR"), &directory, err) < 0) {
        return -1;
    }
    cleanup_free char *found = instance_kubeconfig(directory);
    if (access(found, R_OK) == 0) {
        *ret_path = take_pointer(found);
        return 0;
    }
    if (dir != NULL) {
        return error_set(err, ERROR_NOT_FOUND, "davit never ran in %s", directory);
    }
    *ret_path = NULL;
    return 0;
}

const char *api_advice(const char *kubeconfig, enum error_code code) {
    switch (code) {
    case ERROR_UNAVAILABLE:
        return "\n  `davit status` shows what runs here, `davit up --detach` starts it";
    case ERROR_UNAUTHORIZED:
    case ERROR_DENIED:
        return "\n  the kubeconfig's credentials do not suffice; --kubeconfig names another one";
    case ERROR_NOT_FOUND:
        return kubeconfig != NULL ? "" : "\n  `davit up --detach` starts an API server here, --kubeconfig names another one";
    default:
        return "";
    }
}
