/* XML as stores answer with: small documents, read as leaves with paths. By expat; documents with a DTD are refused, so there are
 * no entities but the five of XML. Pure. */
#ifndef DAVIT_ARTIFACT_XML_H
#define DAVIT_ARTIFACT_XML_H

#include "base/error.h"

#include <stddef.h>

#define XML_DEPTH_MAX 12
#define XML_PATH_BYTES_MAX 256
#define XML_TEXT_BYTES_MAX (16u * 1024) /* of one element */

struct xml_reader {
    /* An element with text and no elements in it, or an empty one: "Error/Code", namespaces' prefixes left out. Borrowed. NULL =
     * not wanted; -1 with *err ends the walk. */
    int (*on_leaf)(void *arg, const char *path, const char *text, struct error *err);
    /* An element with others in it is over. */
    int (*on_end)(void *arg, const char *path, struct error *err);
    void *arg;
};

/* ERROR_INVALID (no XML, a DTD, too deep), ERROR_LIMIT, or what a function said. */
int xml_walk(const char *text, size_t len, const struct xml_reader *reader, struct error *err) DAVIT_MUST_USE;

#endif
