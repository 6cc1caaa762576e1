/* Which hub is asked, and with whose token.
 *
 *   endpoint  the Secret's hf_endpoint; HF_ENDPOINT; https://huggingface.co
 *   token     the Secret's huggingface_token, hf_token, hugging_face_hub_token; HF_TOKEN; HUGGING_FACE_HUB_TOKEN; the file
 * HF_TOKEN_PATH, else $HF_HOME/token (~/.cache/huggingface/token), as `hf auth login` leaves it
 *
 * The process's own token is for the process's own hub: an adapter that brings an endpoint brings a token too, or has none.
 * HF_HUB_DISABLE_IMPLICIT_TOKEN keeps it to itself altogether. */
#ifndef DAVIT_ARTIFACT_HUB_IDENTITY_H
#define DAVIT_ARTIFACT_HUB_IDENTITY_H

#include "artifact/artifact.h"

#define HUB_ENDPOINT_DEFAULT "https://huggingface.co"
#define HUB_TOKEN_BYTES_MAX 4096

/* getenv, or a test's own. */
typedef const char *hub_environment(const char *name);

struct hub_identity {
    char *endpoint;
    bool is_endpoint_ours; /* the process's, not an adapter's */
    char *token;           /* NULL = none */
    char *origin;          /* of the token, for messages: "the Secret's huggingface_token", "HF_TOKEN"; NULL with the token */
};

/* ERROR_INVALID for an endpoint or a token that cannot be one; the message never holds either. The caller releases *ret on success.
 */
int hub_identity_find(const struct artifact_secrets *secrets, hub_environment *environment, struct hub_identity *ret,
                      struct error *err) DAVIT_MUST_USE;
void hub_identity_release(struct hub_identity *identity);

/* HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is "1", "ON", "YES" or "TRUE". */
bool hub_is_offline(hub_environment *environment);
/* The folder of the hub's tools, and in it the hub cache; of the caller's, NULL when the environment has no HOME either. */
char *hub_home(hub_environment *environment);
char *hub_cache_root(hub_environment *environment);

#endif
