/* davit pull --to: an artifact's files in a folder of a person's. */
#ifndef DAVIT_CLI_PULL_COPY_H
#define DAVIT_CLI_PULL_COPY_H

#include "artifact/artifact.h"

/* Makes the folder `to` hold the files of `from`. All of them are written and synced under other names before the first one appears
 * or replaces another, so that a full disk or a cancelled pull changes nothing. Then those go that an earlier call brought and
 * `from` has not; ".davit-pull" in `to` lists what was brought. Whatever else lies there stays. */
int pull_copy(const char *from, const char *to, const struct artifact_progress *progress, struct error *err) DAVIT_MUST_USE;

#endif
