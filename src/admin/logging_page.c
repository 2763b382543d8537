/* logging_page: /logging shows and changes log levels, with Envoy's parameters and texts.
 *
 *   ?level=debug                all components
 *   ?golang=debug               one
 *   ?paths=golang:debug,io:info several: all of them or, when one is wrong, none
 *   nothing                     only shows */
#include "admin/page.h"
#include "base/log.h"

static void put_loggers(struct text *out) {
    text_puts(out, "active loggers:\n");
    for (unsigned i = 0; log_component_at(i); i++) {
        const struct log_component *component = log_component_at(i);
        text_printf(out, "  %s: %s\n", component->name,
                    log_level_name((enum log_level)component->level));
    }
    text_putc(out, '\n');
}

static void refuse(struct page *page, const char *why) {
    page_fail(page, 400,
              "error: %s\n\n"
              "usage: /logging?<name>=<level> (change single level)\n"
              "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
              "usage: /logging?level=<level> (change all levels)\n"
              "levels: ",
              why);
    for (int level = LOG_TRACE; level <= LOG_OFF; level++)
        text_printf(&page->body, "%s ", log_level_name((enum log_level)level));
    text_putc(&page->body, '\n');
    put_loggers(&page->body);
}

static struct log_component *component_named(struct span name) {
    for (unsigned i = 0; log_component_at(i); i++)
        if (span_eq(span_of(log_component_at(i)->name), name))
            return log_component_at(i);
    return NULL;
}

/* NULL, or what is wrong. apply: false only checks. */
static const char *set_one(struct span name, struct span level_name, bool apply) {
    enum log_level level;
    struct log_component *component = component_named(name);
    if (!component)
        return "unknown logger name";
    if (!log_level_parse(level_name, &level))
        return "unknown logger level";
    if (apply)
        component->level = (int)level;
    return NULL;
}

static const char *set_many(struct span list) {
    for (unsigned apply = 0; apply < 2; apply++) { /* first all are checked */
        struct span rest = list, item;
        while (span_next_token(&rest, ',', &item)) {
            if (item.len == 0)
                continue;
            ptrdiff_t colon = span_find(item, ':');
            if (colon < 0)
                return "empty logger name or empty logger level";
            const char *wrong = set_one(span_make(item.ptr, (size_t)colon),
                                        span_from(item, (size_t)colon + 1), apply == 1);
            if (wrong)
                return wrong;
        }
    }
    return NULL;
}

static const char *change_levels(const struct query *query) {
    if (query->count == 0)
        return NULL;
    if (query->count > 1)
        return "invalid number of parameters";
    const struct query_param *param = &query->params[0];
    if (span_eq(param->name, SPAN_LIT("paths")))
        return set_many(param->value);
    if (!span_eq(param->name, SPAN_LIT("level")))
        return set_one(param->name, param->value, true);
    enum log_level level;
    if (!log_level_parse(param->value, &level))
        return "unknown logger level";
    log_set_level(level);
    return NULL;
}

void page_logging(const struct query *query, struct page *page) {
    const char *wrong = change_levels(query);
    if (wrong)
        refuse(page, wrong);
    else
        put_loggers(&page->body);
}
