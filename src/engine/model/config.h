/* Hyperparameters from the metadata of a GGUF. */
#ifndef DAVIT_ENGINE_MODEL_CONFIG_H
#define DAVIT_ENGINE_MODEL_CONFIG_H

#include "engine/model/model.h"

/* ERROR_UNSUPPORTED names an architecture or a rope variant that is not done here; ERROR_INVALID what does not fit together. */
int model_config_read(const struct gguf *gguf, struct model_config *ret_config, struct error *err) DAVIT_MUST_USE;

#endif
