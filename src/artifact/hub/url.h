/* Names on the Hugging Face Hub, and the URLs that they are asked for with. Pure.
 *
 *   hf://org/repo[@revision][/folder]      huggingface:// is the same; "name" alone is a repository of the Hub's earliest years
 *
 * A revision is a branch, a tag or a commit. Its slashes are written %2F ("@refs%2Fpr%2F1"), except in refs/pr/N and
 * refs/convert/X, which may stand as they are. Only models have adapters: hf://datasets/... and hf://spaces/... are refused. */
#ifndef DAVIT_ARTIFACT_HUB_URL_H
#define DAVIT_ARTIFACT_HUB_URL_H

#include "base/error.h"

#include <stdbool.h>

#define HUB_PART_BYTES_MAX 96 /* of an organisation's or a repository's name */
#define HUB_REVISION_BYTES_MAX 255
#define HUB_FOLDER_BYTES_MAX 1024
#define HUB_COMMIT_LEN 40

struct hub_place {
    char *repo;     /* "org/repo" or "repo" */
    char *revision; /* decoded; "main" when nobody said */
    char *folder;   /* "" = the repository's root; else "a/b", without slashes at the ends */
};

/* `revision` is what was asked for beside the URL, "" = nothing; it and the URL's may be given both when they are the same. A
 * user's name, password or token in the URL is refused, and not repeated. ERROR_INVALID names the URL, ERROR_UNSUPPORTED what is no
 * model. The caller releases *ret on success. */
int hub_place_parse(const char *url, const char *revision, struct hub_place *ret, struct error *err) DAVIT_MUST_USE;
void hub_place_release(struct hub_place *place);
/* "hf://org/repo[/folder]", without the revision: the same for all ways to write a place. The caller frees it. */
char *hub_place_url(const struct hub_place *place);

/* Whether a text is the name of a repository, "org/repo" or "repo": 1 to 96 letters, digits, '.', '_', '-' a part, which neither
 * begins nor ends with '.' or '-', without "--" and "..", and does not end with ".git". */
bool hub_is_repo(const char *repo);
/* 40 hexadecimal digits. */
bool hub_is_commit(const char *revision);

/* An http or https URL without user, query and fragment; slashes at its end are cut off. The caller's; NULL and ERROR_INVALID that
 * begins with `origin`. */
char *hub_endpoint_parse(const char *text, const char *origin, struct error *err) DAVIT_MUST_USE;

/* URLs, of the caller's. */
char *hub_info_url(const char *endpoint, const struct hub_place *place, const char *query); /* query "" = none */
char *hub_tree_url(const char *endpoint, const struct hub_place *place, const char *commit);
char *hub_file_url(const char *endpoint, const struct hub_place *place, const char *commit, const char *path);
/* The page after this one, as a Link field says (RFC 8288), asked of `endpoint` whatever host the field names: a mirror passes on
 * what the Hub wrote. NULL when there is none. */
char *hub_next_page(const char *link, const char *endpoint);

#endif
