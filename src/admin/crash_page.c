/* crash_page: /crashes, the reports of processes that died, and one of them. */
#include "admin/crash_dir.h"
#include "admin/stamped_page.h"

static void put_row(struct text *out, const struct stamped_set *set, struct span headline) {
    text_printf(out, "<tr><td><a href=\"/crashes?file=%s\">", set->names[0]);
    text_put_time(out, set->taken_ns);
    text_puts(out, "</a></td><td><code>");
    text_put_html(out, headline);
    text_puts(out, "</code></td></tr>\n");
}

static void put_sets(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *sets, int count) {
    text_puts(out, "<p>Reports of processes that died, in <code>");
    text_put_html(out, span_of(dir->path));
    text_puts(out, "</code>.</p>\n");
    text_puts(out, count == 0 ? "<p>None so far.</p>\n" : "<table>\n");
    for (int i = 0; i < count; i++) {
        struct text headline = {0};
        (void)!crash_dir_headline(dir, span_of(sets[i].names[0]), &headline); /* it may be gone */
        put_row(out, &sets[i], text_span(&headline));
        text_fini(&headline);
    }
    text_puts(out, count == 0 ? "" : "</table>");
}

static void put_fields(struct json *json, const struct stamped_dir *dir,
                       const struct stamped_set *set) {
    struct text headline = {0};
    (void)!crash_dir_headline(dir, span_of(set->names[0]), &headline); /* it may be gone */
    json_field_time(json, "time", set->taken_ns);
    json_field(json, "file", span_of(set->names[0]));
    json_field(json, "what", text_span(&headline));
    text_fini(&headline);
}

void page_crashes(const struct query *query, struct page *page) {
    static const struct stamped_view view = {
        .path = "/crashes",
        .title = "Crashes",
        .items = "crashes",
        .file_type = content_type_text,
        .off_html = "Reports go to standard error. Start with <code>--crash-dir DIR</code>, and "
                    "they are written there.",
        .off_text = "reports of crashes go to standard error: start with --crash-dir DIR",
        .put_sets = put_sets,
        .put_fields = put_fields,
    };
    stamped_page(&view, crash_dir_of_process(), query, page);
}
