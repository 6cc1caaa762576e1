#include "runtime/model_listing.h"

#include "runtime/model_foreign.h"
#include "runtime/model_store.h"

static void add_row(struct model_listing *listing, const char *name, const char *source, enum model_state state) {
    if (listing->count == MODEL_ROWS_MAX) {
        return;
    }
    if ((listing->count & (listing->count - 1)) == 0) { /* grows by doubling */
        listing->rows = xrealloc(listing->rows, (listing->count == 0 ? 1 : 2 * listing->count) * sizeof(listing->rows[0]));
    }
    listing->rows[listing->count++] = (struct model_row){.name = xstrdup(name), .source = xstrdup(source), .state = state};
}

static void add_record(void *arg, const struct model_record *record) {
    struct model_listing *listing = arg;
    enum model_state state = model_store_is_there(listing->folder, record)         ? MODEL_DOWNLOADED
                             : model_store_is_begun(listing->folder, record->name) ? MODEL_DOWNLOADING
                                                                                   : MODEL_NO_OPERATION;
    add_row(listing, record->name, record->source, state);
}

static void add_foreign(void *arg, const char *name, const char *source, enum model_foreign found) {
    add_row(arg, name, source, model_foreign_state(found));
}

void model_listing_look(struct disk_job *disk) {
    struct model_listing *listing = (struct model_listing *)disk;
    model_store_each(listing->folder, add_record, listing);
    model_foreign_each(listing->folder, add_foreign, listing);
}

void model_listing_release(struct model_listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->rows[i].name);
        free(listing->rows[i].source);
    }
    free(listing->rows);
    free(listing->folder);
    *listing = (struct model_listing){0};
}
