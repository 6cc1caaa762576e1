/* Base models: which files of a source make one, and whether what came is one.
 *
 * Nobody says in advance how a model's files are called, so it is their endings that count: those that an engine reads, or those
 * that whoever asked for the model named. Files right in the folder; what lies in folders below is another model's, or for another
 * engine. Pickle runs code when it is read: it has to be named, and the process has to allow it. */
#ifndef DAVIT_ARTIFACT_MODEL_FILES_H
#define DAVIT_ARTIFACT_MODEL_FILES_H

#include "artifact/manifest.h"
#include "artifact/source.h"

/* A URL that names a file of weights: the one of its folder, and what artifact_wanted.model_suffixes says of the file. false = it
 * names a folder, a repository or nothing. Both of the caller's. */
bool model_url_split(const char *url, char **ret_folder, char **ret_suffixes) DAVIT_MUST_USE;

/* `filter->model_suffixes` is not NULL. */
bool model_file_is_needed(const char *name, const struct source_filter *filter);
/* Whether the list may be a model's. ERROR_NOT_FOUND says which endings were looked for. */
int model_check_listing(const struct artifact_listing *listing, const struct source_filter *filter, const char *label,
                        struct error *err) DAVIT_MUST_USE;
/* Whether weights begin as their format has it: what a server sends in the place of a file does not. `folder` is an open one. */
int model_check_folder(int folder, const struct manifest *manifest, const char *label, struct error *err) DAVIT_MUST_USE;

#endif
