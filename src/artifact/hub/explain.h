/* What a hub's refusal means, and what a person does about it. Pure.
 *
 * X-Error-Code tells apart what the status does not: an anonymous request for what is missing, private or gated is 401 in all three
 * cases. */
#ifndef DAVIT_ARTIFACT_HUB_EXPLAIN_H
#define DAVIT_ARTIFACT_HUB_EXPLAIN_H

#include "artifact/hub/identity.h"
#include "artifact/hub/url.h"

struct hub_refusal {
    const struct hub_identity *identity;
    const struct hub_place *place;
    const char *what;    /* file or folder that was asked for, "" = the repository itself */
    const char *commit;  /* NULL = not known yet */
    int status;          /* >= 300 */
    const char *code;    /* X-Error-Code, NULL = absent */
    const char *message; /* X-Error-Message, NULL = absent */
    bool is_elsewhere;   /* the answer came from the host that the hub sent us to */
};

void hub_explain(const struct hub_refusal *refusal, struct error *err);

#endif
