/* admin: from an exchange to a page and back. The page is built whole in malloc memory before the
 * response begins: it shows one moment, its length is known, and a client that reads slowly costs
 * one buffer and nothing else. */
#include "admin/admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/page.h"
#include "base/log.h"
#include "proxy/exchange.h"

LOG_COMPONENT(admin, "admin");

/* ---- a body over the page's buffer ---- */

struct page_reader {
    struct text text; /* owned */
    size_t read;
};

static ssize_t page_reader_next(void *data, size_t max, struct span *out) {
    struct page_reader *reader = data;
    size_t left = reader->text.len - reader->read;
    size_t len = left < max ? left : max;
    *out = span_make(reader->text.data + reader->read, len);
    reader->read += len;
    return (ssize_t)len;
}

static void page_reader_close(void *data) {
    struct page_reader *reader = data;
    text_fini(&reader->text);
    reader->read = 0;
}

static const struct reader_itab page_reader_itab = {.next = page_reader_next,
                                                    .close = page_reader_close};

/* ---- the filter ---- */

/* 0 and the page's buffer has moved to the response, or -ENOMEM and the page still has it. */
static int respond(struct exchange *x, struct page *page) {
    struct header_map *headers = &x->response.headers;
    struct span status = arena_printf(&x->arena, "%u", page->status);
    struct span length = arena_printf(&x->arena, "%zu", page->body.len);
    struct page_reader *reader = arena_zalloc(&x->arena, sizeof *reader);
    if (!reader || span_is_none(status) || span_is_none(length))
        return -ENOMEM;
    struct span nosniff = SPAN_LIT("x-content-type-options");
    int rc = header_set_id(headers, HDR_STATUS, status);
    if (rc == 0)
        rc = header_set_id(headers, HDR_CONTENT_TYPE, span_of(page->content_type));
    if (rc == 0)
        rc = header_set_id(headers, HDR_CACHE_CONTROL, SPAN_LIT("no-cache, max-age=0"));
    if (rc == 0)
        rc = header_set(headers, HDR_OTHER, nosniff, SPAN_LIT("nosniff"));
    if (rc == 0)
        rc = header_set_id(headers, HDR_CONTENT_LENGTH, length);
    if (rc < 0)
        return rc;
    if (page->body.len > 0) {
        reader->text = page->body;
        page->body = (struct text){0};
        x->response.body = (struct reader){&page_reader_itab, reader};
    }
    return 0;
}

static void admin_request(struct exchange *x, void *self) {
    struct span method = header_get(&x->request.headers, HDR_METHOD);
    struct span target = header_get(&x->request.headers, HDR_PATH);
    struct page page;
    admin_dispatch(method, target, &page);
    /* Who looks for what changed this process looks here. */
    LOG(log_admin, span_eq(method, SPAN_LIT("POST")) ? LOG_INFO : LOG_DEBUG, "%.*s %.*s: %u",
        (int)method.len, method.ptr, (int)target.len, target.ptr, page.status);
    if (page.body.failed || respond(x, &page) < 0) {
        struct local_reply reply = {.status = 503,
                                    .body = SPAN_LIT("out of memory\n"),
                                    .details = SPAN_LIT("admin_out_of_memory"),
                                    .grpc_status = GRPC_STATUS_UNSET};
        exchange_reply(x, &reply);
    } else {
        x->info.response_code_details = SPAN_LIT("admin_filter_response");
    }
    page_fini(&page);
}

static const struct filter_itab admin_itab = {.name = "admin", .request = admin_request};

const struct filter_kind filter_kind_admin = {.itab = &admin_itab, .terminal = true};
