/* remote_call: see the header. */
#include "ext/remote/remote_call.h"

#include <errno.h>

#include "ext/remote/remote_wire.h"

enum { PARTS_LAST = REMOTE_PARTS - 1, PHASES_LAST = 2 };

static void put_i32(struct remote_out *out, int32_t value) {
    put_32(out, (uint32_t)value);
}

static int32_t take_i32(struct remote_in *in) {
    return (int32_t)take_32(in);
}

static void put_head(struct remote_out *out, uint64_t number, uint32_t id) {
    put_64(out, number);
    put_32(out, id);
}

static void take_head(struct remote_in *in, uint64_t *number, uint32_t *id) {
    *number = take_64(in);
    *id = take_32(in);
}

/* ---- to the host ---- */

void remote_put_call(struct remote_out *out, const struct remote_call *call) {
    put_head(out, call->number, call->id);
    put_8(out, call->function);
    put_8(out, call->phase);
    put_8(out, call->bodies[0]);
    put_8(out, call->bodies[1]);
    put_64(out, call->config_id);
    put_64(out, call->handle);
    put_i32(out, call->error);
    put_text(out, call->bytes);
    put_8(out, call->shown);
    for (unsigned i = 0; call->shown && i < REMOTE_PARTS; i++)
        put_map(out, &call->maps[i]);
}

int remote_read_call(struct span record, struct header *entries, uint32_t max,
                     struct remote_call *out) {
    struct remote_in in = reading(record);
    struct entries room = {entries, max};
    take_head(&in, &out->number, &out->id);
    out->function = take_enum(&in, REMOTE_START, REMOTE_FUNCTIONS - 1);
    out->phase = take_enum(&in, 0, PHASES_LAST);
    out->bodies[0] = take_bool(&in);
    out->bodies[1] = take_bool(&in);
    out->config_id = take_64(&in);
    out->handle = take_64(&in);
    out->error = take_i32(&in);
    out->bytes = take_text(&in);
    out->shown = take_bool(&in);
    for (unsigned i = 0; i < REMOTE_PARTS; i++) {
        out->maps[i] = (struct ext_view){0};
        if (out->shown)
            take_map(&in, &room, &out->maps[i]);
    }
    return done(&in);
}

void remote_put_give(struct remote_out *out, const struct remote_give *give) {
    put_head(out, give->number, give->id);
    put_8(out, give->alive);
    put_i32(out, give->rc);
    put_64(out, give->value);
    put_text(out, give->text);
    put_map(out, &give->trailers);
}

int remote_read_give(struct span record, struct header *entries, uint32_t max,
                     struct remote_give *out) {
    struct remote_in in = reading(record);
    struct entries room = {entries, max};
    take_head(&in, &out->number, &out->id);
    out->alive = take_bool(&in);
    out->rc = take_i32(&in);
    out->value = take_64(&in);
    out->text = take_text(&in);
    take_map(&in, &room, &out->trailers);
    return done(&in);
}

/* ---- from the host ---- */

void remote_put_want(struct remote_out *out, const struct remote_want *want) {
    put_head(out, want->number, want->id);
    put_8(out, want->question);
    put_8(out, want->part);
    put_64(out, want->n);
    put_64(out, want->m);
    put_text(out, want->a);
    put_text(out, want->b);
    put_text(out, want->c);
    put_text(out, want->edits);
}

int remote_read_want(struct span record, struct remote_want *out) {
    struct remote_in in = reading(record);
    take_head(&in, &out->number, &out->id);
    out->question = take_enum(&in, REMOTE_WANT_EDITS, REMOTE_WANTS - 1);
    out->part = take_enum(&in, 0, PARTS_LAST);
    out->n = take_64(&in);
    out->m = take_64(&in);
    out->a = take_text(&in);
    out->b = take_text(&in);
    out->c = take_text(&in);
    out->edits = take_text(&in);
    return done(&in);
}

void remote_put_return(struct remote_out *out, const struct remote_return *said) {
    put_head(out, said->number, said->id);
    put_8(out, said->ending);
    put_i32(out, said->rc);
    put_32(out, said->merges);
    put_text(out, said->edits);
    put_text(out, said->bytes);
    put_text(out, said->counts);
}

int remote_read_return(struct span record, struct remote_return *out) {
    struct remote_in in = reading(record);
    take_head(&in, &out->number, &out->id);
    out->ending = take_enum(&in, REMOTE_ENDED, REMOTE_ENDINGS - 1);
    out->rc = take_i32(&in);
    out->merges = take_32(&in);
    out->edits = take_text(&in);
    out->bytes = take_text(&in);
    out->counts = take_text(&in);
    return done(&in);
}

void remote_put_count(struct remote_out *counts, const struct remote_count *count) {
    put_8(counts, count->kind);
    put_8(counts, count->is_set);
    put_64(counts, (uint64_t)count->value);
    put_text(counts, count->name);
}

int remote_next_count(struct span *counts, struct remote_count *out) {
    if (counts->len == 0)
        return 0;
    struct remote_in in = reading(*counts);
    out->kind = take_enum(&in, STAT_COUNTER, STAT_HISTOGRAM);
    out->is_set = take_bool(&in);
    out->value = (int64_t)take_64(&in);
    out->name = take_text(&in);
    if (in.bad)
        return -EPROTO;
    *counts = span_make(in.at, in.left);
    return 1;
}

void remote_put_edit(struct remote_out *edits, const struct remote_edit *edit) {
    put_8(edits, edit->part);
    put_8(edits, edit->kind);
    put_text(edits, edit->name);
    put_text(edits, edit->value);
}

int remote_next_edit(struct span *edits, struct remote_edit *out) {
    if (edits->len == 0)
        return 0;
    struct remote_in in = reading(*edits);
    out->part = take_enum(&in, 0, PARTS_LAST);
    out->kind = take_enum(&in, REMOTE_EDIT_SET, REMOTE_EDIT_REMOVE);
    out->name = take_text(&in);
    out->value = take_text(&in);
    if (in.bad)
        return -EPROTO;
    *edits = span_make(in.at, in.left);
    return 1;
}
