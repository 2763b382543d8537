/* inject: sluice.filters.network.inject: puts texts with values of the connection into its bytes: a trace header, a
 * tenant, a tag, before them and behind them, each way for itself.
 *
 *     client ─► [prefix] bytes [footer] ─► to_upstream          the reader is wrapped
 *     client ◄─ [footer] bytes [prefix] ◄─ to_client            the writer is
 *
 * A text is rendered when it goes out, so a footer knows what came of the connection, and a stream that broke has none.
 * Who has a prefix only may be spliced once it is out; nobody looks at the bytes in either case. */
#include <errno.h>
#include <stdlib.h>

#include "config/network_config.h"
#include "filter/network_filters.h"
#include "io/stream_footer.h"
#include "io/stream_prefix.h"
#include "proxy/format.h"

enum place { TO_UPSTREAM_PREFIX, TO_UPSTREAM_FOOTER, TO_CLIENT_PREFIX, TO_CLIENT_FOOTER, PLACES };

struct inject {
    struct format *formats[PLACES]; /* NULL: nothing goes there */
};

/* A text of one connection. */
struct injected {
    struct network_stream *n;
    const struct format *format;
    struct format_out out;
};

struct injection {
    struct injected texts[PLACES];
    struct prefix_reader prefix;
    struct footer_reader footer;
    struct prefix_writer prefix_w;
    struct footer_writer footer_w;
};

/* ---- A connection ---- */

static struct span render(void *arg) {
    struct injected *text = arg;
    struct format_subject of = format_of_stream(text->n, FORMAT_EVENT_NONE);
    format_write(text->format, &of, SPAN_LIT("-"), &text->out, NULL);
    if (text->out.failed)
        return span_none();
    return text->out.data ? span_make(text->out.data, text->out.len) : SPAN_LIT("");
}

static struct stream_text text_of(struct injection *injection, struct network_stream *n,
                                  const struct inject *config, enum place place) {
    struct injected *text = &injection->texts[place];
    text->n = n;
    text->format = config->formats[place];
    return (struct stream_text){.make = render, .arg = text};
}

static int open_connection(struct network_stream *n, const struct network_filter *filter,
                           void **self) {
    const struct inject *config = filter->config;
    struct injection *injection = calloc(1, sizeof *injection);
    if (!injection)
        return -ENOMEM;
    if (config->formats[TO_UPSTREAM_PREFIX]) {
        prefix_reader_init(&injection->prefix, n->reader,
                           text_of(injection, n, config, TO_UPSTREAM_PREFIX));
        n->reader = prefix_reader(&injection->prefix);
    }
    if (config->formats[TO_UPSTREAM_FOOTER]) {
        footer_reader_init(&injection->footer, n->reader,
                           text_of(injection, n, config, TO_UPSTREAM_FOOTER));
        n->reader = footer_reader(&injection->footer);
    }
    if (config->formats[TO_CLIENT_PREFIX]) {
        prefix_writer_init(&injection->prefix_w, n->writer,
                           text_of(injection, n, config, TO_CLIENT_PREFIX));
        n->writer = prefix_writer(&injection->prefix_w);
    }
    if (config->formats[TO_CLIENT_FOOTER]) {
        footer_writer_init(&injection->footer_w, n->writer,
                           text_of(injection, n, config, TO_CLIENT_FOOTER));
        n->writer = footer_writer(&injection->footer_w);
    }
    *self = injection;
    return 0;
}

static void close_connection(struct network_stream *n, void *self) {
    struct injection *injection = self;
    for (enum place place = 0; place < PLACES; place++)
        free(injection->texts[place].out.data);
    free(injection);
}

/* ---- The configuration ---- */

static void free_config(void *config) {
    struct inject *inject = config;
    for (enum place place = 0; place < PLACES; place++)
        if (inject->formats[place])
            format_free(inject->formats[place]);
    free(inject);
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **config) {
    const struct cfg_inject *cfg = typed_config->message;
    const struct cfg_inject_texts *ways[] = {cfg->to_upstream, cfg->to_client};
    struct inject *inject = calloc(1, sizeof *inject);
    if (!inject)
        return -ENOMEM;
    *config = inject;
    for (unsigned way = 0; way < 2; way++) {
        if (!ways[way])
            continue;
        struct span texts[] = {ways[way]->prefix, ways[way]->footer};
        for (unsigned i = 0; i < 2; i++) {
            if (texts[i].len == 0)
                continue;
            struct format *format = format_compile(texts[i], &ways[way]->mark, problems);
            if (!format) {
                free_config(inject);
                *config = NULL;
                return -EINVAL;
            }
            inject->formats[2 * way + i] = format;
        }
    }
    return 0;
}

static const struct network_filter_itab itab = {
    .name = "sluice.filters.network.inject",
    .open = open_connection,
    .close = close_connection,
};

const struct network_filter_kind network_filter_kind_inject = {
    .itab = &itab,
    .schema = &cfg_schema_inject,
    .wraps = true,
    .build = build,
    .free_config = free_config,
};
