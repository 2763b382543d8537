/* extensions_page: /extensions: Go libraries, those in this process with their copies and those in processes of their own, as
 * JSON; and a POST by which one is taken from its file again. */
#include <stdlib.h>
#include <string.h>

#include "admin/json.h"
#include "admin/page.h"
#include "base/clock.h"
#include "ext/go/go_swap.h"
#include "ext/remote/remote_library.h"
#include "rt/foreign.h"

/* ---- in this process ---- */

static void put_copy(struct json *json, const struct ext_copy_row *copy) {
    json_open(json, '{');
    json_key(json, "version");
    json_u64(json, copy->version);
    json_field(json, "state", span_of(copy->state));
    json_field(json, "build_id", span_of(copy->build_id));
    json_field(json, "sdk", span_of(copy->sdk));
    json_field(json, "go", span_of(copy->go));
    json_key(json, "in_flight");
    json_u64(json, copy->in_flight);
    json_key(json, "memory_bytes");
    json_u64(json, copy->memory_bytes);
    json_close(json, '}');
}

static void put_row(void *arg, const struct ext_row *row) {
    struct json *json = arg;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"version", row->copies[0].version},     {"kept_copies", row->copy_count - 1},
        {"kept_copies_max", row->kept_max},      {"reloads", row->reloads},
        {"failed_reloads", row->failed_reloads},
    };
    json_open(json, '{');
    json_field(json, "library_id", span_of(row->library_id));
    json_field(json, "path", span_of(row->path));
    json_field(json, "isolation", SPAN_LIT("IN_PROCESS"));
    json_field(json, "state", span_of(row->state));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_key(json, numbers[i].name);
        json_u64(json, numbers[i].value);
    }
    json_field(json, "last_error", span_of(row->last_error));
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

static void show(struct json *json, struct remote_library *library) {
    struct remote_library_view view;
    remote_library_look(library, &view);
    const struct supervisor_status *status = &view.status;
    int64_t now_ns = clock_mono_ns();
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"version", status->generation},
        {"pid", (uint64_t)status->pid},
        {"streams", view.streams},
        {"draining_processes", status->draining},
        {"draining_streams", view.draining_streams},
        {"restarts", status->restarts},
        {"crashes", status->crashes},
        {"hangs", status->hangs},
        {"failures_lately", status->failures_lately},
        {"reloads", view.reloads},
        {"failed_reloads", view.failed_reloads},
        {"time_to_up_us", (uint64_t)(status->time_to_up_ns / NS_PER_US)},
        {"up_for_ms",
         status->up_since_ns ? (uint64_t)((now_ns - status->up_since_ns) / NS_PER_MS) : 0},
    };
    json_open(json, '{');
    json_field(json, "library_id", span_of(view.id));
    json_field(json, "path", span_of(view.path));
    json_field(json, "isolation", SPAN_LIT("PROCESS"));
    json_field(json, "state", span_of(supervisor_state_name(status->state)));
    json_field(json, "build_id", span_of(view.build_id));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_key(json, numbers[i].name);
        json_u64(json, numbers[i].value);
    }
    json_field(json, "last_cause", span_of(status->last_cause));
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

static struct remote_library *find(struct span id) {
    struct remote_library_view view;
    for (struct remote_library *library = remote_library_first(); library;
         library = remote_library_next(library)) {
        remote_library_look(library, &view);
        if (span_eq(span_of(view.id), id))
            return library;
    }
    return NULL;
}

/* go_library_origin waits while a library is loaded. */
struct finding {
    struct span id;
    struct go_origin *origin;
};
static void find_origin(void *arg) {
    struct finding *finding = arg;
    finding->origin = go_library_origin(finding->id);
}

static void reload_here(struct go_origin *origin, struct page *page) {
    char *why;
    if (go_swap_now(origin, &why) == GO_RENEW_FAILED)
        page->status = 409;
    text_printf(&page->body, "%s: %s\n", origin->id, why ? why : "out of memory");
    free(why);
}

static void reload_there(struct remote_library *library, struct page *page) {
    char *why;
    if (remote_library_reload(library, &why) == GO_RENEW_FAILED)
        page_fail(page, 500, "the library goes on as it was: %s\n", why ? why : "out of memory");
    else
        text_puts(&page->body, "OK\n");
    free(why);
}

void page_extensions_reload(const struct query *query, struct page *page) {
    struct finding finding = {.id = query_find(query, "library_id")};
    struct remote_library *remote = span_is_none(finding.id) ? NULL : find(finding.id);
    if (remote)
        reload_there(remote, page);
    else if (blocking_call(find_origin, &finding) != 0)
        page_fail(page, 503, "there is no thread to load it on: try again\n");
    else if (finding.origin)
        reload_here(finding.origin, page);
    else
        page_fail(
            page, 404,
            "there is no Go library of library_id '%.*s': /extensions lists those there are\n",
            (int)finding.id.len, finding.id.ptr ? finding.id.ptr : "");
}
