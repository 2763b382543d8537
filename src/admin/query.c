#include "admin/query.h"

#include <stdlib.h>

#include "http/chars.h"

/* Escapes that are not two hexadecimal digits stand for themselves, and so does '+', as on Envoy:
 * it would be a nuisance in regular expressions. */
static struct span decode(char **at, struct span raw) {
    char *start = *at, *out = start;
    for (size_t i = 0; i < raw.len; i++) {
        int high = -1, low = -1;
        if (raw.ptr[i] == '%' && i + 2 < raw.len) {
            high = chars_hex(raw.ptr[i + 1]);
            low = chars_hex(raw.ptr[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            *out++ = (char)(high << 4 | low);
            i += 2;
        } else {
            *out++ = raw.ptr[i];
        }
    }
    *at = out;
    return span_make(start, (size_t)(out - start));
}

bool query_parse(struct query *query, struct span raw) {
    query->count = 0;
    query->storage = malloc(raw.len + 1); /* decoding never lengthens */
    if (!query->storage)
        return false;
    char *at = query->storage;
    while (raw.len > 0 && query->count < QUERY_PARAMS_MAX) {
        ptrdiff_t end = span_find(raw, '&');
        struct span pair = end < 0 ? raw : span_make(raw.ptr, (size_t)end);
        raw = span_from(raw, end < 0 ? raw.len : (size_t)end + 1);
        if (pair.len == 0)
            continue;
        ptrdiff_t equals = span_find(pair, '=');
        size_t name_len = equals < 0 ? pair.len : (size_t)equals;
        struct query_param *param = &query->params[query->count++];
        param->name = decode(&at, span_make(pair.ptr, name_len));
        param->value = decode(&at, span_from(pair, equals < 0 ? pair.len : name_len + 1));
    }
    return true;
}

void query_fini(struct query *query) {
    free(query->storage);
    *query = (struct query){0};
}

struct span query_find(const struct query *query, const char *name) {
    for (size_t i = 0; i < query->count; i++)
        if (span_eq(query->params[i].name, span_of(name)))
            return query->params[i].value;
    return span_none();
}
