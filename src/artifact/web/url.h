/* The URL of an adapter on a web server: a folder, and what is asked of every file in it. Pure.
 *
 *   https://host/adapters/sql                      adapter_config.json and the weights lie below .../sql/
 *   https://host/adapters/sql/adapter_config.json  the same; so does the URL of a weights file
 *   https://host/adapters/sql?sig=...              the query goes along with each file, as signed URLs of a folder want it
 *   https://user:password@host/adapters/sql        basic authentication
 *
 * User info and query may be secret: `folder` has neither, and may be shown. */
#ifndef DAVIT_ARTIFACT_WEB_URL_H
#define DAVIT_ARTIFACT_WEB_URL_H

#include "base/error.h"

#define SOURCE_HTTP_URL_BYTES_MAX 8192

struct source_http_url {
    char *folder;    /* "https://host:port/adapters/sql/" */
    char *query;     /* "?sig=...", "" = none */
    char *user_info; /* "user:password" decoded; NULL = none */
};

/* ERROR_INVALID; ERROR_UNSUPPORTED for an archive. The caller releases *ret on success. */
int source_http_url_parse(const char *text, struct source_http_url *ret, struct error *err) DAVIT_MUST_USE;
void source_http_url_release(struct source_http_url *url);
/* The URL of a file in the folder, of the caller's. */
char *source_http_url_file(const struct source_http_url *url, const char *name);

#endif
