/* extensions_page: /extensions: Go libraries, those in this process with their copies and those in processes of their own, as
 * JSON; a POST by which one is taken from its file again; and one that ends its rollout by hand. */
#include <stdlib.h>
#include <string.h>

#include "admin/json.h"
#include "admin/page.h"
#include "admin/rollout_view.h"
#include "base/clock.h"
#include "ext/go/go_swap.h"
#include "ext/remote/remote_library.h"
#include "proxy/rollout.h"
#include "rt/foreign.h"

/* ---- rollouts ---- */

static void put_rollout(struct json *json, struct rollout *rollout) {
    if (!rollout)
        return;
    json_key(json, "rollout");
    json_open(json, '{');
    rollout_put_fields(json, rollout);
    json_close(json, '}');
}

/* ---- in this process ---- */

static void put_copy(struct json *json, const struct ext_copy_row *copy) {
    json_open(json, '{');
    json_field_u64(json, "version", copy->version);
    json_field(json, "state", span_of(copy->state));
    json_field(json, "build_id", span_of(copy->build_id));
    json_field(json, "sdk", span_of(copy->sdk));
    json_field(json, "go", span_of(copy->go));
    json_field_u64(json, "in_flight", copy->in_flight);
    json_field_u64(json, "memory_bytes", copy->memory_bytes);
    json_close(json, '}');
}

static void put_row(void *arg, const struct ext_row *row) {
    struct json *json = arg;
    json_open(json, '{');
    json_field(json, "library_id", span_of(row->library_id));
    json_field(json, "path", span_of(row->path));
    json_field(json, "isolation", SPAN_LIT("IN_PROCESS"));
    json_field(json, "state", span_of(row->state));
    json_field_u64(json, "version", row->copies[0].version);
    json_field_u64(json, "kept_copies", row->copy_count - 1);
    json_field_u64(json, "kept_copies_max", row->kept_max);
    json_field_u64(json, "reloads", row->reloads);
    json_field_u64(json, "failed_reloads", row->failed_reloads);
    json_field(json, "last_error", span_of(row->last_error));
    put_rollout(json, row->rollout);
    json_key(json, "copies");
    json_open(json, '[');
    for (size_t i = 0; i < row->copy_count; i++)
        put_copy(json, &row->copies[i]);
    json_close(json, ']');
    json_close(json, '}');
}

struct listing {
    struct json *json;
    int err;
};

static void put_rows(void *arg) {
    struct listing *listing = arg;
    listing->err = go_swap_each_row(put_row, listing->json);
}

/* ---- in processes of their own ---- */

static uint64_t ms_between(int64_t from_ns, int64_t to_ns) {
    return from_ns && to_ns > from_ns ? (uint64_t)((to_ns - from_ns) / NS_PER_MS) : 0;
}

static void show(struct json *json, struct remote_library *library) {
    struct remote_library_view view;
    remote_library_look(library, &view);
    const struct supervisor_status *status = &view.status;
    int64_t now_ns = clock_mono_ns();
    json_open(json, '{');
    json_field(json, "library_id", span_of(view.id));
    json_field(json, "path", span_of(view.path));
    json_field(json, "isolation", SPAN_LIT("PROCESS"));
    json_field(json, "state", span_of(supervisor_state_name(status->state)));
    json_field(json, "build_id", span_of(view.build_id));
    json_field_u64(json, "version", status->generation);
    json_field_u64(json, "pid", (uint64_t)status->pid);
    json_field_u64(json, "streams", view.streams);
    json_field_u64(json, "draining_processes", status->draining);
    json_field_u64(json, "draining_streams", view.draining_streams);
    json_field_u64(json, "restarts", status->restarts);
    json_field_u64(json, "crashes", status->crashes);
    json_field_u64(json, "hangs", status->hangs);
    json_field_u64(json, "failures_lately", status->failures_lately);
    json_field_u64(json, "reloads", view.reloads);
    json_field_u64(json, "failed_reloads", view.failed_reloads);
    json_field_u64(json, "time_to_up_us", (uint64_t)(status->time_to_up_ns / NS_PER_US));
    json_field_u64(json, "up_for_ms", ms_between(status->up_since_ns, now_ns));
    json_field_u64(json, "next_try_in_ms", ms_between(now_ns, status->next_try_ns));
    json_field(json, "last_cause", span_of(status->last_cause));
    json_field(json, "last_error", span_of(view.last_error));
    put_rollout(json, remote_library_rollout(library));
    json_close(json, '}');
}

void page_extensions(const struct query *query, struct page *page) {
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    page->content_type = content_type_json;
    json_open(&json, '{');
    json_key(&json, "extensions");
    json_open(&json, '[');
    for (struct remote_library *library = remote_library_first(); library;
         library = remote_library_next(library))
        show(&json, library);
    struct listing listing = {.json = &json};
    int err = blocking_call(put_rows, &listing);
    json_close(&json, ']');
    json_close(&json, '}');
    text_puts(&page->body, "\n");
    if (err || listing.err)
        page_fail(page, 503, "the libraries cannot be looked at now: %s\n",
                  strerror(err ? -err : -listing.err));
}

/* ---- reload ---- */

/* go_library_origin waits while a library is loaded. */
struct finding {
    struct span id;
    struct go_origin *origin;
};
static void find_origin(void *arg) {
    struct finding *finding = arg;
    finding->origin = go_library_origin(finding->id);
}

/* why is transferred. 409: the file is not one that can be taken; what serves goes on. */
static void tell(struct page *page, struct span id, enum go_renewed result, char *why) {
    if (result == GO_RENEW_FAILED)
        page->status = 409;
    text_printf(&page->body, "%.*s: %s\n", (int)id.len, id.ptr, why ? why : "out of memory");
    free(why);
}

static void reload_here(struct span id, struct go_origin *origin, struct page *page) {
    char *why;
    enum go_renewed result = go_swap_now(origin, &why);
    tell(page, id, result, why);
}

static void reload_there(struct span id, struct remote_library *library, struct page *page) {
    char *why;
    enum go_renewed result = remote_library_reload(library, &why);
    tell(page, id, result, why);
}

static void say_unknown(struct page *page, struct span id) {
    page_fail(page, 404,
              "there is no Go library of library_id '%.*s': /extensions lists those there are\n",
              (int)id.len, id.ptr ? id.ptr : "");
}

void page_extensions_reload(const struct query *query, struct page *page) {
    struct finding finding = {.id = query_find(query, "library_id")};
    struct remote_library *remote = remote_library_find(finding.id);
    if (remote)
        reload_there(finding.id, remote, page);
    else if (blocking_call(find_origin, &finding) != 0)
        page_fail(page, 503, "there is no thread to load it on: try again\n");
    else if (finding.origin)
        reload_here(finding.id, finding.origin, page);
    else
        say_unknown(page, finding.id);
}

/* ---- a rollout by hand ---- */

struct order {
    struct span id;
    bool promote;
    bool is_known, was_rolling;
};

static void carry_out(void *arg) {
    struct order *order = arg;
    const struct remote_library *remote = remote_library_find(order->id);
    const struct go_origin *origin = remote ? NULL : go_library_origin(order->id);
    struct rollout *rollout = remote   ? remote_library_rollout(remote)
                              : origin ? origin->rollout
                                       : NULL;
    order->is_known = remote || origin;
    order->was_rolling = rollout && rollout_conclude(rollout, order->promote, "by hand");
}

void page_extensions_rollout(const struct query *query, struct page *page) {
    struct span action = query_find(query, "action");
    struct order order = {.id = query_find(query, "library_id"),
                          .promote = span_eq(action, SPAN_LIT("promote"))};
    if (!order.promote && !span_eq(action, SPAN_LIT("withdraw")))
        page_fail(page, 400, "action is promote or withdraw\n");
    else if (blocking_call(carry_out, &order) != 0)
        page_fail(page, 503, "there is no thread to do it on: try again\n");
    else if (!order.is_known)
        say_unknown(page, order.id);
    else if (!order.was_rolling)
        page_fail(page, 409, "%.*s: no new version of it is being rolled out\n", (int)order.id.len,
                  order.id.ptr);
    else
        text_printf(&page->body, "%.*s: %s\n", (int)order.id.len, order.id.ptr,
                    order.promote ? "the new version serves all" : "the new version is withdrawn");
}
