#include "controller/known_names.h"

#include <string.h>

static bool has_tag(const struct known_names *names, const char *tag) {
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->rows[i].tag, tag) == 0) {
            return true;
        }
    }
    return false;
}

static struct known_name row_of(const char *adapter, const char *tag, const char *revision) {
    struct known_name row;
    snprintf(row.tag, sizeof(row.tag), "%s", tag);
    snprintf(row.revision, sizeof(row.revision), "%s", revision);
    snprintf(row.text, sizeof(row.text), "%s%s%s", tag[0] != '\0' ? adapter : "", tag[0] != '\0' ? "_" : "", tag);
    return row;
}

static void add_revision(struct known_names *names, const char *revision) {
    char tag[ENGINE_TAG_BYTES];
    engine_tag_of(revision, tag);
    if (!has_tag(names, tag) && names->count < ARRAY_LEN(names->rows)) { /* the newer one of two with the same digits */
        names->rows[names->count++] = row_of(names->adapter, tag, revision);
    }
}

void known_names_init(struct known_names *names, const char *adapter, const char *revision, const char *known) {
    *names = (struct known_names){.adapter = adapter};
    size_t len = 0;
    if (engine_name_split(adapter, &len)[0] != '\0') {
        return;
    }
    names->rows[names->count++] = row_of(adapter, "", "");
    if (len >= ENGINE_NAME_BYTES - ENGINE_TAG_BYTES) {
        return; /* no Service can be called so, hence nothing of it was ever loaded */
    }
    add_revision(names, revision);
    char each[REVISION_BYTES];
    for (const char *at = known; (at = recall_next(at, each)) != NULL;) {
        add_revision(names, each);
    }
}

/* ---- a look at a list ---- */

struct look {
    const struct hold_target *target;
    const struct hold *hold;
    struct hold_listing *listing;
    int best;
};

/* The higher, the sooner it has its turn. */
static int rank_of(const struct look *look, const char *tag) {
    bool is_wanted = strcmp(look->target->tag, tag) == 0;
    bool is_held = strcmp(look->hold->tag, tag) == 0;
    return is_held && (!is_wanted || hold_is_serving(look->hold)) ? 3 : is_wanted ? 1 : 2;
}

static void take(struct look *look, const struct known_name *row, const struct dialect_model *model) {
    struct hold_listing *listing = look->listing;
    const char *tag = row->tag;
    bool is_base = model->parent == NULL;
    /* Beside one with a tag somebody else's adapter is in nobody's way; a base model would be asked for by the same public name. */
    if (tag[0] == '\0' && look->target->tag[0] != '\0' && !is_base && hold_is_foreign(look->target, model->root)) {
        return;
    }
    int rank = rank_of(look, tag);
    bool is_best = rank > look->best;
    listing->is_several = listing->is_listed;
    if (listing->is_several) {
        memcpy(listing->other, is_best ? listing->tag : tag, ENGINE_TAG_BYTES);
    }
    listing->is_listed = true;
    if (is_best) {
        look->best = rank;
        listing->root = model->root;
        listing->is_base = is_base;
        memcpy(listing->tag, tag, ENGINE_TAG_BYTES);
        memcpy(listing->revision, row->revision, REVISION_BYTES);
    }
}

static void look_for(struct look *look, const char *adapter, const struct known_name *row, known_names_find *find,
                     const void *list) {
    const struct dialect_model *model = find(list, row->text[0] != '\0' ? row->text : adapter);
    if (model != NULL) {
        take(look, row, model);
    }
}

void known_names_look(const struct known_names *names, const struct hold_target *target, const struct hold *hold,
                      known_names_find *find, const void *list, struct hold_listing *listing) {
    struct look look = {.target = target, .hold = hold, .listing = listing};
    listing->is_listed = listing->is_several = false;
    listing->root = "";
    for (size_t i = 0; i < names->count; i++) {
        look_for(&look, names->adapter, &names->rows[i], find, list);
    }
    if (names->count > 0 && !has_tag(names, hold->tag)) {
        struct known_name own = row_of(names->adapter, hold->tag, hold->revision);
        look_for(&look, names->adapter, &own, find, list);
    }
}
