#include "admin/stamped_page.h"

#include <errno.h>
#include <stdlib.h>

#include "rt/foreign.h"

struct asking {
    const struct stamped_view *view;
    const struct stamped_dir *dir;
    struct span file;
    bool is_json;
    struct page *page;
};

static void put_head(struct text *out, const char *title) {
    text_printf(out,
                "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                "<title>%s</title>\n"
                "<style>:root{color-scheme:light dark}"
                "body{font:14px/1.45 system-ui,sans-serif;margin:20px}"
                "td,th{padding:4px 14px 4px 0;text-align:left;vertical-align:top}"
                "code{user-select:all;overflow-wrap:anywhere}</style></head>\n"
                "<body><h1>%s</h1>\n",
                title, title);
}

static void put_html(const struct asking *asking, const struct stamped_set *sets, int count) {
    struct text *out = &asking->page->body;
    put_head(out, asking->view->title);
    asking->view->put_sets(out, asking->dir, sets, count);
    text_puts(out, "</body></html>\n");
}

static void put_json(const struct asking *asking, const struct stamped_set *sets, int count) {
    struct text *out = &asking->page->body;
    struct json json = {.out = out, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_field(&json, "dir", span_of(asking->dir->path));
    json_key(&json, asking->view->items);
    json_open(&json, '[');
    for (int i = 0; i < count; i++) {
        json_open(&json, '{');
        asking->view->put_fields(&json, asking->dir, &sets[i]);
        json_close(&json, '}');
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
    (asking->is_json ? put_json : put_html)(asking, sets, count);
    free(sets);
}

static void send_file(const struct asking *asking) {
    struct page *page = asking->page;
    int err = stamped_dir_read(asking->dir, asking->file, &page->body);
    if (err == -EINVAL)
        page_fail(page, 400, "file must be one of those that %s lists\n", asking->view->path);
    else if (err < 0)
        page_fail(page, err == -ENOENT ? 404 : 503, "it cannot be read: %s\n", strerror(-err));
    else
        page->content_type = asking->view->file_type;
}

static void answer(void *arg) {
    const struct asking *asking = arg;
    (span_is_none(asking->file) ? list : send_file)(asking);
}

static void put_off(const struct stamped_view *view, struct page *page) {
    page->content_type = content_type_html;
    put_head(&page->body, view->title);
    text_printf(&page->body, "<p>%s</p></body></html>\n", view->off_html);
}

void stamped_page(const struct stamped_view *view, const struct stamped_dir *dir,
                  const struct query *query, struct page *page) {
    struct span format = query_find(query, "format");
    struct asking asking = {.view = view,
                            .dir = dir,
                            .file = query_find(query, "file"),
                            .is_json = span_eq(format, SPAN_LIT("json")),
                            .page = page};
    if (!asking.is_json && !span_is_none(format) && !span_eq(format, SPAN_LIT("html")))
        page_fail(page, 400, "format must be html or json\n");
    else if (!dir && !asking.is_json && span_is_none(asking.file))
        put_off(view, page);
    else if (!dir)
        page_fail(page, 404, "%s: see --help\n", view->off_text);
    else if (blocking_call(answer, &asking) < 0)
        page_fail(page, 503, "no thread to read files\n");
}
