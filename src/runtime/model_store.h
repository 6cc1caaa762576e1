/* Where base models lie on the disk, below a folder:
 *
 *   <folder>/<name>                          a link to the files; what an engine is started with
 *   <folder>/.cache/davit/v1/                the artifact cache that holds them (artifact/cache/cache.h)
 *   <folder>/.cache/davit/models/<key>.json  what each name was asked for with, and which object of the cache it is
 *   <folder>/.cache/davit/models/<key>.lock  locked, shared, by each process that is at it
 *
 * Links are relative: they hold wherever the folder is mounted. A link is put in the place of another by rename, so a name leads to
 * the files of before or to those of now; nothing but a link is ever replaced. All calls are short, and block. */
#ifndef DAVIT_RUNTIME_MODEL_STORE_H
#define DAVIT_RUNTIME_MODEL_STORE_H

#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>

#define MODEL_RECORDS_MAX 1024 /* that are looked at */
#define MODEL_OBJECT_BYTES 33  /* of an object's name in the cache */

struct model_record {
    char *name;
    char *url; /* without what is secret in it */
    char *source;
    char identity[HASH_HEX_BYTES]; /* of all that was asked */
    char *object;                  /* its folder's name in the cache; "" = it is not there, or not whole */
};
void model_record_release(struct model_record *record);

/* "<folder>/.cache/davit", of the caller's. */
char *model_store_cache(const char *folder);
int model_store_write(const char *folder, const struct model_record *record, struct error *err) DAVIT_MUST_USE;
/* false = there is none. The caller releases *ret. */
bool model_store_read(const char *folder, const char *name, struct model_record *ret) DAVIT_MUST_USE;
void model_store_forget(const char *folder, const char *name);
void model_store_each(const char *folder, void (*visit)(void *arg, const struct model_record *record), void *arg);

/* Tells other processes that this one is at it, until the descriptor is closed or the process ends. -1 = it cannot be told. */
int model_store_begin(const char *folder, const char *name);
/* Whether a process, this one included, is at it. */
bool model_store_is_begun(const char *folder, const char *name);

/* Which object of the cache a name leads to; false = to none that is there. */
bool model_store_leads_to(const char *folder, const char *name, char ret_object[MODEL_OBJECT_BYTES]);
/* Whether the record's name leads to its files. */
bool model_store_is_there(const char *folder, const struct model_record *record);
/* Lets the name lead to an object of the cache. ERROR_EXISTS: something that is no link has the name. */
int model_store_link(const char *folder, const char *name, const char *object, struct error *err) DAVIT_MUST_USE;

#endif
