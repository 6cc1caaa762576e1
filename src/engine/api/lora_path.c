#include "engine/api/lora_path.h"

#include "adapter/artifact_url.h"
#include "artifact/hub/url.h"
#include "base/alloc.h"
#include "io/url.h"

#include <string.h>

int lora_place_find(const char *path, struct lora_place *ret, struct error *err) {
    const char *local = artifact_local_path(path);
    const char *home = getenv("HOME");
    *ret = (struct lora_place){0};
    if (local != NULL) {
        ret->folder = xstrdup(local);
    } else if (path[0] == '~' && (path[1] == '/' || path[1] == '\0') && home != NULL) {
        ret->folder = xasprintf("%s%s", home, path + 1);
    } else if (artifact_scheme_of(path) != ARTIFACT_UNKNOWN) {
        ret->url = xstrdup(path);
    } else if (strstr(path, "://") != NULL) {
        cleanup_free char *shown = url_for_people(path);
        return error_set(err, ERROR_NOT_FOUND, "lora_path \"%.256s\": expected %s, or org/repo of the Hugging Face Hub", shown,
                         artifact_schemes_text());
    } else if (access(path, F_OK) < 0 && strchr(path, '/') != NULL && hub_is_repo(path)) {
        ret->url = xasprintf("hf://%s", path);
    } else {
        ret->folder = xstrdup(path);
    }
    return 0;
}

void lora_place_release(struct lora_place *place) {
    free(place->folder);
    free(place->url);
    *place = (struct lora_place){0};
}
