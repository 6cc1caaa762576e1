#include "artifact/xml.h"

#include "base/buffer.h"

#include <expat.h>
#include <limits.h>
#include <string.h>

struct walk {
    XML_Parser parser;
    const struct xml_reader *reader;
    struct error *err;
    bool has_failed; /* *err is set */
    char path[XML_PATH_BYTES_MAX];
    size_t ends[XML_DEPTH_MAX]; /* of the path, before each open element */
    int depth;
    bool is_leaf; /* the element that was opened last had no other in it so far */
    struct buffer text;
};

static void stop(struct walk *walk) {
    walk->has_failed = true;
    (void)XML_StopParser(walk->parser, XML_FALSE);
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
                               int has_subset) {
    struct walk *walk = arg;
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_subset;
    error_set(walk->err, ERROR_INVALID, "the XML has a document type, which is not read");
    stop(walk);
}

static void XMLCALL on_open(void *arg, const XML_Char *name, const XML_Char **attributes) {
    struct walk *walk = arg;
    const char *colon = strrchr(name, ':');
    const char *local = colon != NULL ? colon + 1 : name;
    size_t len = strlen(walk->path);
    (void)attributes;
    if (walk->has_failed) {
        return;
    }
    if (walk->depth == XML_DEPTH_MAX || len + strlen(local) + 2 > sizeof(walk->path)) {
        error_set(walk->err, ERROR_LIMIT, "the XML has elements in more than %d others, or with longer names than are read",
                  XML_DEPTH_MAX);
        stop(walk);
        return;
    }
    walk->ends[walk->depth++] = len;
    (void)snprintf(walk->path + len, sizeof(walk->path) - len, "%s%s", len > 0 ? "/" : "", local);
    walk->is_leaf = true;
    buffer_clear(&walk->text);
}

static void XMLCALL on_close(void *arg, const XML_Char *name) {
    struct walk *walk = arg;
    const struct xml_reader *reader = walk->reader;
    int result = 0;
    (void)name;
    if (walk->has_failed) {
        return;
    }
    if (walk->is_leaf && reader->on_leaf != NULL) {
        result = reader->on_leaf(reader->arg, walk->path, buffer_text(&walk->text), walk->err);
    } else if (!walk->is_leaf && reader->on_end != NULL) {
        result = reader->on_end(reader->arg, walk->path, walk->err);
    }
    walk->path[walk->ends[--walk->depth]] = '\0';
    walk->is_leaf = false;
    buffer_clear(&walk->text);
    if (result < 0) {
        stop(walk);
    }
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len) {
    struct walk *walk = arg;
    if (walk->has_failed) {
        return;
    }
    if (walk->text.len + (size_t)len > XML_TEXT_BYTES_MAX) {
        error_set(walk->err, ERROR_LIMIT, "the XML has a text of more than %u bytes at %s", XML_TEXT_BYTES_MAX, walk->path);
        stop(walk);
        return;
    }
    buffer_append(&walk->text, text, (size_t)len);
}

int xml_walk(const char *text, size_t len, const struct xml_reader *reader, struct error *err) {
    struct error own = {0};
    struct walk walk = {.reader = reader, .err = err != NULL ? err : &own, .parser = XML_ParserCreate(NULL)};
    if (walk.parser == NULL) {
        return error_set(err, ERROR_INTERNAL, "no memory for an XML parser");
    }
    XML_SetUserData(walk.parser, &walk);
    XML_SetStartDoctypeDeclHandler(walk.parser, on_doctype);
    XML_SetElementHandler(walk.parser, on_open, on_close);
    XML_SetCharacterDataHandler(walk.parser, on_text);
    int result = len <= INT_MAX && XML_Parse(walk.parser, text, (int)len, 1) == XML_STATUS_OK ? 0 : -1;
    if (result < 0 && !walk.has_failed) {
        error_set(err, ERROR_INVALID, "expected XML: line %lu: %s", XML_GetCurrentLineNumber(walk.parser),
                  XML_ErrorString(XML_GetErrorCode(walk.parser)));
    }
    XML_ParserFree(walk.parser);
    buffer_release(&walk.text);
    return walk.has_failed ? -1 : result;
}
