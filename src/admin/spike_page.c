/* spike_page: /debug/heap/spikes, the pairs of profiles of spikes and how to look at them.
 *
 * All in one function on a thread of blocking_call, because files block: it fills the page, which the
 * coroutine leaves alone meanwhile. */
#include <errno.h>
#include <stdlib.h>

#include "admin/json.h"
#include "admin/page.h"
#include "admin/spike_capture.h"
#include "rt/foreign.h"

struct asking {
    const struct spike_capture *capture;
    struct span file;
    bool is_json;
    struct page *page;
};

static void put_link(struct text *out, const char *name) {
    text_printf(out, "<td><a href=\"/debug/heap/spikes?file=%s\" download=\"%s\">%s</a></td>", name,
                name, name);
}

static const char html_head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Heap spikes</title>\n"
    "<style>:root{color-scheme:light dark}body{font:14px/1.45 system-ui,sans-serif;margin:20px}"
    "td,th{padding:4px 14px 4px 0;text-align:left;vertical-align:top}"
    "code{user-select:all;overflow-wrap:anywhere}</style></head>\n"
    "<body><h1>Heap spikes</h1>\n";

static void put_page(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *pairs, int count) {
    text_puts(out, html_head);
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
    text_puts(out, count > 0 ? "</table></body></html>\n" : "</body></html>\n");
}

static void put_json(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *pairs, int count) {
    struct json json = {.out = out, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_field(&json, "dir", span_of(dir->path));
    json_key(&json, "pairs");
    json_open(&json, '[');
    for (int i = 0; i < count; i++) {
        struct text command = {0};
        spike_put_command(&command, dir, &pairs[i]);
        json_open(&json, '{');
        json_field_time(&json, "taken", pairs[i].taken_ns);
        json_field(&json, "before", span_of(pairs[i].names[SPIKE_BEFORE]));
        json_field(&json, "after", span_of(pairs[i].names[SPIKE_AFTER]));
        json_field_u64_string(&json, "bytes", (uint64_t)pairs[i].bytes);
        json_field(&json, "command", text_span(&command));
        json_close(&json, '}');
        text_fini(&command);
    }
    json_close(&json, ']');
    json_close(&json, '}');
    text_putc(out, '\n');
}

static void list(const struct asking *asking) {
    const struct stamped_dir *dir = &asking->capture->dir;
    struct page *page = asking->page;
    struct stamped_set *pairs;
    int count = stamped_dir_list(dir, &pairs);
    if (count < 0) {
        page_fail(page, 503, "%s cannot be read: %s\n", dir->path, strerror(-count));
        return;
    }
    page->content_type = asking->is_json ? content_type_json : content_type_html;
    (asking->is_json ? put_json : put_page)(&page->body, dir, pairs, count);
    free(pairs);
}

static void send_file(const struct asking *asking) {
    struct page *page = asking->page;
    int err = stamped_dir_read(&asking->capture->dir, asking->file, &page->body);
    if (err == -EINVAL)
        page_fail(page, 400, "file must be one of those that /debug/heap/spikes lists\n");
    else if (err < 0)
        page_fail(page, err == -ENOENT ? 404 : 503, "it cannot be read: %s\n", strerror(-err));
    else
        page->content_type = content_type_bytes;
}

static void answer(void *arg) {
    const struct asking *asking = arg;
    (span_is_none(asking->file) ? list : send_file)(asking);
}

static void put_off(struct page *page) {
    page->content_type = content_type_html;
    text_puts(&page->body, html_head);
    text_puts(&page->body,
              "<p>Spikes are not captured. Start with <code>--heap-spike-dir DIR</code>, and "
              "profiles of before and after one are written there.</p></body></html>\n");
}

void page_heap_spikes(const struct query *query, struct page *page) {
    struct span format = query_find(query, "format");
    struct asking asking = {.capture = spike_capture_of_process(),
                            .file = query_find(query, "file"),
                            .is_json = span_eq(format, SPAN_LIT("json")),
                            .page = page};
    if (!asking.is_json && !span_is_none(format) && !span_eq(format, SPAN_LIT("html")))
        page_fail(page, 400, "format must be html or json\n");
    else if (!asking.capture && !asking.is_json && span_is_none(asking.file))
        put_off(page);
    else if (!asking.capture)
        page_fail(page, 404,
                  "spikes are not captured: start with --heap-spike-dir DIR, see --help\n");
    else if (blocking_call(answer, &asking) < 0)
        page_fail(page, 503, "no thread to read files\n");
}
