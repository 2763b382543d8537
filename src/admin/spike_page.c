/* spike_page: /debug/heap/spikes, the pairs of profiles of spikes and how to look at them. */
#include "admin/spike_capture.h"
#include "admin/stamped_page.h"

static void put_link(struct text *out, const char *name) {
    text_printf(out, "<td><a href=\"/debug/heap/spikes?file=%s\" download=\"%s\">%s</a></td>", name,
                name, name);
}

static void put_sets(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *pairs, int count) {
    text_puts(out, "<p>Profiles of the memory in use before and after it rose, in <code>");
    text_put_html(out, span_of(dir->path));
    text_puts(out, "</code>. The command shows what rose, and nothing else.</p>\n");
    if (count == 0)
        text_puts(out, "<p>No spike so far.</p>\n");
    else
        text_puts(out, "<table><tr><th>Before</th><th>After</th><th>Bytes</th>"
                       "<th>Look at it</th></tr>\n");
    for (int i = 0; i < count; i++) {
        struct text command = {0};
        spike_put_command(&command, dir, &pairs[i]);
        text_puts(out, "<tr>");
        put_link(out, pairs[i].names[SPIKE_BEFORE]);
        put_link(out, pairs[i].names[SPIKE_AFTER]);
        text_printf(out, "<td>%lld</td><td><code>", (long long)pairs[i].bytes);
        text_put_html(out, text_span(&command));
        text_puts(out, "</code></td></tr>\n");
        text_fini(&command);
    }
    text_puts(out, count > 0 ? "</table>" : "");
}

static void put_fields(struct json *json, const struct stamped_dir *dir,
                       const struct stamped_set *pair) {
    struct text command = {0};
    spike_put_command(&command, dir, pair);
    json_field_time(json, "taken", pair->taken_ns);
    json_field(json, "before", span_of(pair->names[SPIKE_BEFORE]));
    json_field(json, "after", span_of(pair->names[SPIKE_AFTER]));
    json_field_u64_string(json, "bytes", (uint64_t)pair->bytes);
    json_field(json, "command", text_span(&command));
    text_fini(&command);
}

void page_heap_spikes(const struct query *query, struct page *page) {
    static const struct stamped_view view = {
        .path = "/debug/heap/spikes",
        .title = "Heap spikes",
        .items = "pairs",
        .file_type = content_type_bytes,
        .off_html = "Spikes are not captured. Start with <code>--heap-spike-dir DIR</code>, and "
                    "profiles of before and after one are written there.",
        .off_text = "spikes are not captured: start with --heap-spike-dir DIR",
        .put_sets = put_sets,
        .put_fields = put_fields,
    };
    const struct spike_capture *capture = spike_capture_of_process();
    stamped_page(&view, capture ? &capture->dir : NULL, query, page);
}
