/* crash_page: /crashes, the reports of processes that died, and one of them.
 *
 * All in one function on a thread of blocking_call, because files block: it fills the page, which the
 * coroutine leaves alone meanwhile. */
#include <errno.h>
#include <stdlib.h>

#include "admin/crash_dir.h"
#include "admin/json.h"
#include "admin/page.h"
#include "rt/foreign.h"

struct asking {
    const struct stamped_dir *dir;
    struct span file;
    bool is_json;
    struct page *page;
};

static void put_row(struct text *out, const struct stamped_set *set, struct span headline) {
    text_printf(out, "<tr><td><a href=\"/crashes?file=%s\">", set->names[0]);
    text_put_time(out, set->taken_ns);
    text_puts(out, "</a></td><td><code>");
    text_put_html(out, headline);
    text_puts(out, "</code></td></tr>\n");
}

static const char html_head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Crashes</title>\n"
    "<style>:root{color-scheme:light dark}body{font:14px/1.45 system-ui,sans-serif;margin:20px}"
    "td,th{padding:4px 14px 4px 0;text-align:left;vertical-align:top}"
    "code{overflow-wrap:anywhere}</style></head>\n"
    "<body><h1>Crashes</h1>\n";

static void put_page(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *sets, int count) {
    text_puts(out, html_head);
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
    text_puts(out, count == 0 ? "</body></html>\n" : "</table></body></html>\n");
}

static void put_json(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *sets, int count) {
    struct json json = {.out = out, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_field(&json, "dir", span_of(dir->path));
    json_key(&json, "crashes");
    json_open(&json, '[');
    for (int i = 0; i < count; i++) {
        struct text headline = {0};
        (void)!crash_dir_headline(dir, span_of(sets[i].names[0]), &headline); /* it may be gone */
        json_open(&json, '{');
        json_field_time(&json, "time", sets[i].taken_ns);
        json_field(&json, "file", span_of(sets[i].names[0]));
        json_field(&json, "what", text_span(&headline));
        json_close(&json, '}');
        text_fini(&headline);
    }
    json_close(&json, ']');
    json_close(&json, '}');
    text_putc(out, '\n');
}

static void list(const struct asking *asking) {
    struct page *page = asking->page;
    struct stamped_set *sets;
    int count = stamped_dir_list(asking->dir, &sets);
    if (count < 0) {
        page_fail(page, 503, "%s cannot be read: %s\n", asking->dir->path, strerror(-count));
        return;
    }
    page->content_type = asking->is_json ? content_type_json : content_type_html;
    (asking->is_json ? put_json : put_page)(&page->body, asking->dir, sets, count);
    free(sets);
}

static void send_report(const struct asking *asking) {
    struct page *page = asking->page;
    int err = stamped_dir_read(asking->dir, asking->file, &page->body);
    if (err == -EINVAL)
        page_fail(page, 400, "file must be one of those that /crashes lists\n");
    else if (err < 0)
        page_fail(page, err == -ENOENT ? 404 : 503, "it cannot be read: %s\n", strerror(-err));
}

static void answer(void *arg) {
    const struct asking *asking = arg;
    (span_is_none(asking->file) ? list : send_report)(asking);
}

static void put_off(struct page *page) {
    page->content_type = content_type_html;
    text_puts(&page->body, html_head);
    text_puts(&page->body, "<p>Reports go to standard error. Start with <code>--crash-dir "
                           "DIR</code>, and they are written there.</p></body></html>\n");
}

void page_crashes(const struct query *query, struct page *page) {
    struct span format = query_find(query, "format");
    struct asking asking = {.dir = crash_dir_of_process(),
                            .file = query_find(query, "file"),
                            .is_json = span_eq(format, SPAN_LIT("json")),
                            .page = page};
    if (!asking.is_json && !span_is_none(format) && !span_eq(format, SPAN_LIT("html")))
        page_fail(page, 400, "format must be html or json\n");
    else if (!asking.dir && !asking.is_json && span_is_none(asking.file))
        put_off(page);
    else if (!asking.dir)
        page_fail(page, 404,
                  "reports of crashes go to standard error: start with --crash-dir DIR, see "
                  "--help\n");
    else if (blocking_call(answer, &asking) < 0)
        page_fail(page, 503, "no thread to read files\n");
}
