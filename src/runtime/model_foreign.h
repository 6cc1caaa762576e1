/* Base models that other programs brought: AIBrix's downloader, and the Hub's own with a folder to download into. A volume that one
 * of them has filled is used as it is. They leave the files themselves in <folder>/<name>/, and in .cache/<source>/download/ below
 * it a <file>.lock of each file that was begun and a <file>.metadata of each that came.
 *
 * Nobody notes that a model is whole, so it is called so when every file that was begun came, there are weights, and of each set
 * of numbered weights ("-00001-of-00004") all. */
#ifndef DAVIT_RUNTIME_MODEL_FOREIGN_H
#define DAVIT_RUNTIME_MODEL_FOREIGN_H

#include "runtime/models.h"

enum model_foreign {
    MODEL_FOREIGN_NONE,
    MODEL_FOREIGN_HALF,
    MODEL_FOREIGN_COMING /* its writer is at work */,
    MODEL_FOREIGN_WHOLE
};

/* *ret_source: "huggingface", "s3" or "tos", when it is not NONE. */
enum model_foreign model_foreign_look(const char *folder, const char *name, const char **ret_source);
enum model_state model_foreign_state(enum model_foreign found);

/* Those of a folder whose names have one or two parts. */
void model_foreign_each(const char *folder,
                        void (*visit)(void *arg, const char *name, const char *source, enum model_foreign found), void *arg);

#endif
