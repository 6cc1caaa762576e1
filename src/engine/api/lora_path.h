/* What a lora_path means. As vLLM reads it (get_adapter_absolute_path), and URLs besides:
 *
 *   /x, file:///x       the folder
 *   ~, ~/x              the folder below HOME
 *   hf://..., s3://...  what artifact/ fetches
 *   a/b                 the folder, where there is one; else model "a/b" of the Hugging Face Hub
 *
 * Anything else is a folder that may not be there. */
#ifndef DAVIT_ENGINE_API_LORA_PATH_H
#define DAVIT_ENGINE_API_LORA_PATH_H

#include "base/error.h"

struct lora_place {
    char *folder; /* on this machine; NULL when it is to be fetched */
    char *url;    /* to fetch; NULL when it is a folder */
};

/* Looks at the disk. ERROR_NOT_FOUND for a scheme that nobody fetches. The caller releases *ret on success. */
int lora_place_find(const char *path, struct lora_place *ret, struct error *err) DAVIT_MUST_USE;
void lora_place_release(struct lora_place *place);

#endif
