/* exchange_log: see the header.
 *
 * Periodic  The timer's callback may not park and a filter's function may, for as long as its extension is blocked. So
 *           there is a coroutine for it, and it holds the exchange by a pointer that the exchange's end clears:
 *
 *               timer ──► flush ──► filter 0 ──► filter 1 ──► lines
 *                           x         parks                    x?   NULL: the exchange has ended meanwhile
 *
 *           Neither does the exchange's end wait for a blocked filter, nor does a line tell of an exchange that is
 *           gone. What a filter needs after it has parked it keeps by itself (filter.h).
 * Moments   Other coroutines of the exchange are parked somewhere while its line is written. Where one of them is in the
 *           middle of reading the response's head or trailers, these are not there yet, as on Envoy. */
#include "proxy/exchange_log.h"

#include <stdlib.h>

#include "proxy/access_log.h"
#include "proxy/body_out.h"
#include "proxy/hcm.h"
#include "rt/labels.h"

struct log_flush {
    struct exchange *x; /* NULL: it is over */
    struct doing doing;
};

static void write_lines(struct exchange *x, enum format_event event) {
    struct format_subject of = format_of_exchange(x);
    of.event = event;
    for (uint32_t i = 0; i < x->hcm->log_count; i++)
        access_log_write(x->hcm->logs[i], &of);
}

void exchange_log(struct exchange *x, enum filter_log_phase phase) {
    for (uint32_t i = 0; i < x->filter_count; i++) {
        struct filter_instance *f = &x->filters[i];
        if (f->factory->itab->log) {
            doing_filter(x->doing, &f->factory->labels);
            f->factory->itab->log(x, f->self, phase);
        }
    }
    doing_filter(x->doing, NULL);
    if (x->hcm->log_count)
        write_lines(x, phase == FILTER_LOG_END ? FORMAT_EVENT_DOWNSTREAM_END
                                               : FORMAT_EVENT_DOWNSTREAM_START);
}

void exchange_moment_begin(struct exchange *x, struct exchange_moment *aside) {
    *aside =
        (struct exchange_moment){x->response, x->request.trailers, x->info.upstream_rx_first_ns};
    if (!x->request_complete)
        header_map_init(&x->request.trailers, &x->arena);
    if (x->state == EXCHANGE_REQUEST) {
        message_init(&x->response, &x->arena);
        x->info.upstream_rx_first_ns = 0;
    } else if (!exchange_has_response_trailers(x)) {
        header_map_init(&x->response.trailers, &x->arena);
    }
    if (x->sending) {
        x->info.bytes_sent = x->sending->body_bytes;
        x->info.header_bytes_sent = x->sending->head_bytes;
    }
}

void exchange_moment_end(struct exchange *x, const struct exchange_moment *aside) {
    x->response = aside->response;
    x->request.trailers = aside->request_trailers;
    x->info.upstream_rx_first_ns = aside->upstream_rx_first_ns;
}

void exchange_log_lines(struct exchange *x, enum format_event event) {
    struct exchange_moment aside;
    exchange_moment_begin(x, &aside);
    write_lines(x, event);
    exchange_moment_end(x, &aside);
}

static void flush(void *arg) {
    struct log_flush *flush = arg;
    for (uint32_t i = 0; flush->x && i < flush->x->filter_count; i++) {
        const struct filter_instance *f = &flush->x->filters[i];
        if (f->factory->itab->log) {
            doing_filter(&flush->doing, &f->factory->labels);
            f->factory->itab->log(flush->x, f->self, FILTER_LOG_PERIODIC);
        }
    }
    if (flush->x) {
        exchange_log_lines(flush->x, FORMAT_EVENT_DOWNSTREAM_PERIODIC);
        flush->x->flush = NULL;
    }
    labels_describe_by(NULL); /* a profile's signal may come until the end */
    free(flush);
}

void exchange_log_periodic(struct exchange *x) {
    if (x->flush)
        return;
    struct log_flush *made = malloc(sizeof *made);
    if (!made)
        return;
    made->x = x;
    doing_init(&made->doing, NULL);
    doing_request(&made->doing, &x->asked);
    doing_connection(&made->doing, exchange_connection_id(x));
    const struct go_options options = {
        .name = "periodic log", .place = RT_HERE, .describer = &made->doing.describer};
    if (go_with(&options, flush, made) == 0)
        x->flush = made;
    else
        free(made);
}

void exchange_log_leave(struct exchange *x) {
    x->flush->x = NULL;
    doing_filter(&x->flush->doing, NULL); /* the labels may go with the exchange's configuration */
    doing_request(&x->flush->doing, NULL);
    x->flush = NULL;
}
