/* The simplest source: a folder that the engine sees under the same path (a shared mount). Nothing is copied. */
#ifndef DAVIT_ARTIFACT_FETCH_FOLDER_H
#define DAVIT_ARTIFACT_FETCH_FOLDER_H

#include "artifact/artifact.h"

/* Seen: checked, and hashed when a digest is wanted. Not seen (the mount may be the engine's alone): is_unseen. */
int fetch_folder(const struct artifact_options *options, const struct artifact_wanted *wanted, const char *path,
                 struct artifact_progress *progress, struct artifact_found *ret, struct error *err) DAVIT_MUST_USE;

#endif
