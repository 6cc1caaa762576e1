/* What a refusal of S3 means to a person. Pure. */
#ifndef DAVIT_ARTIFACT_S3_EXPLAIN_H
#define DAVIT_ARTIFACT_S3_EXPLAIN_H

#include "artifact/s3/aws_credentials.h"
#include "artifact/s3/xml.h"

struct s3_question {
    const char *shown;           /* "s3://models/sql/adapter_config.json" */
    const char *origin;          /* whose keys, or why there are none: aws_identity.origin */
    const struct aws_keys *keys; /* nobody's, or those with which it was signed: never shown */
    bool is_listing;
};

/* Sets *err with the code that keeps the meaning, and returns -1. `refusal` is empty where the answer had no words. */
int s3_explain(int status, const struct s3_refusal *refusal, const struct s3_question *question, struct error *err);

/* Whether keys that were good a while ago may have ended: new ones are worth a try. */
bool s3_is_expiry(int status, const struct s3_refusal *refusal);

#endif
