/* json_router: the request waits here, on the exchange's coroutine, until the body has told what is asked, and no
 * longer: pull a span, scan it where it lies, stop at the last value. What was pulled is read again by
 * who comes next, byte for byte (json_body.h).
 *
 * What a client writes into a body must not get further than as a value. So a header of a rule is the filter's
 * alone: what came under that name is removed first, whatever the body is. And a value that a header cannot
 * hold as it is (control bytes, by which a client would write headers of his own; blanks at its ends, which
 * receivers strip; arrays, objects) is no value: changed into one it would name something else.
 *
 * Of a key that is there twice the first one counts, since the request does not wait for a second one; most
 * servers take the last one. Who decides about rights by such a value has to read the whole body and to reject.
 *
 * Rejected  To hold the head only, and to let the body go on: the route decides where to. A filter that keeps
 *           the whole body, as a buffer filter would: it delays each upload by its length, for nothing. */
#include <errno.h>
#include <stdio.h>

#include "config/scalar.h"
#include "filter/json_body.h"
#include "filter/json_router_internal.h"
#include "proxy/metadata.h"

enum {
    VALUE_MAX_BYTES = 1024
}; /* of a header that routes are chosen by; a longer one is unusable */

struct look {
    struct exchange *x;
    const struct json_router *router;
    struct found_value {
        enum json_kind kind;
        bool found, too_long;
        struct span text; /* in the arena */
    } values[JSON_PATHS_MAX];
    bool repeated, out_of_memory;
    struct json_scan scan;
    char text[VALUE_MAX_BYTES];
};

static void look_init(struct look *look, struct exchange *x, const struct json_router *router) {
    look->x = x;
    look->router = router;
    look->repeated = look->out_of_memory = false;
    for (uint32_t i = 0; i < router->rule_count; i++)
        look->values[i].found = false;
}

static void count(const struct look *look, const struct statistic *stat) {
    stat_inc(stat, look->x->shard);
}

/* Of a wildcard the first one is enough. */
static bool on_value(void *arg, const struct json_value *value) {
    struct look *look = arg;
    struct found_value *found = &look->values[value->path];
    if (value->again) {
        look->repeated |= (look->router->paths->single >> value->path & 1) != 0;
        return false;
    }
    *found = (struct found_value){.kind = value->kind, .found = true, .too_long = value->too_long};
    found->text = value->text.len ? arena_copy(&look->x->arena, value->text) : SPAN_LIT("");
    look->out_of_memory |= span_is_none(found->text);
    return false;
}

/* ---- whether to look ---- */

static bool is_json_type(struct span type) {
    return span_eq_nocase(type, SPAN_LIT("application/json")) ||
           (type.len > 5 && span_eq_nocase(span_from(type, type.len - 5), SPAN_LIT("+json")));
}

static bool type_is_allowed(const struct cfg_json_router *config, struct span type) {
    ptrdiff_t end = span_find(type, ';');
    type = span_trim(end < 0 ? type : span_make(type.ptr, (size_t)end));
    if (!type.len)
        return config->allow_empty_content_type;
    if (!config->allow_content_types_count)
        return is_json_type(type);
    for (size_t i = 0; i < config->allow_content_types_count; i++)
        if (span_eq_nocase(type, config->allow_content_types[i]))
            return true;
    return false;
}

/* A body in a content coding is bytes to us. */
static bool is_encoded(const struct header_map *headers) {
    struct span coding = header_get(headers, HDR_CONTENT_ENCODING);
    return coding.len && !span_eq_nocase(span_trim(coding), SPAN_LIT("identity"));
}

/* ---- looking ---- */

static void reply(const struct look *look, unsigned status, struct span body, struct span details) {
    struct local_reply reply = {
        .status = status, .body = body, .details = details, .grpc_status = GRPC_STATUS_UNSET};
    exchange_reply(look->x, &reply);
}

/* Nobody else is there to answer for a body that cannot be read. */
static void body_failed(const struct look *look, ssize_t rc) {
    if (!exchange_alive(look->x))
        return;
    if (rc == -ENOMEM)
        reply(look, 503, SPAN_LIT(EXCHANGE_MEMORY_LIMIT_TEXT),
              SPAN_LIT(EXCHANGE_MEMORY_LIMIT_DETAILS));
    else if (rc == -EMSGSIZE)
        reply(look, 413, span_none(), SPAN_LIT("request_payload_too_large"));
    else if (rc == -EPROTO)
        reply(look, 400, span_none(), SPAN_LIT("http1.codec_error"));
    else if (rc == -ETIMEDOUT)
        reply(look, 408, span_none(), SPAN_LIT("request_overall_timeout"));
    else
        exchange_reset(look->x, SPAN_LIT("downstream_remote_disconnect"));
}

static void reject(const struct look *look) {
    char text[128];
    int len = look->repeated
                  ? snprintf(text, sizeof text, "a field of the JSON body is there twice")
                  : snprintf(text, sizeof text, "the body is no JSON: byte %llu cannot be",
                             (unsigned long long)json_scan_offset(&look->scan));
    count(look, look->router->stats.rejected);
    reply(look, 400, span_make(text, (size_t)len), SPAN_LIT("json_router_invalid_body"));
}

static void forget_values(struct look *look) {
    for (uint32_t i = 0; i < look->router->rule_count; i++)
        look->values[i].found = false;
}

/* 1: the body is as it should be, as far as was looked; 0: it is not; or -errno of the body. */
static int scan_body(struct look *look, struct json_body *body) {
    const struct cfg_json_router *config = look->router->config;
    size_t limit = exchange_buffer_limit(look->x), seen = 0;
    if (config->max_body_bytes.set && config->max_body_bytes.value < limit)
        limit = config->max_body_bytes.value;
    struct json_scan_options options = {.text = look->text,
                                        .text_size = sizeof look->text,
                                        .stop_when_found = !config->read_whole_body,
                                        .on_value = on_value,
                                        .arg = look};
    json_scan_init(&look->scan, look->router->paths, options);
    enum json_verdict verdict = JSON_MORE;
    while (verdict == JSON_MORE) {
        struct span bytes;
        ssize_t n = json_body_pull(body, look->x, SIZE_MAX, &bytes);
        if (n < 0)
            return (int)n;
        if (n == 0) {
            verdict = json_scan_end(&look->scan);
            break;
        }
        if (bytes.len > limit - seen)
            bytes.len = limit - seen;
        seen += bytes.len;
        verdict = json_scan_feed(&look->scan, bytes);
        if (verdict == JSON_MORE && bytes.len < (size_t)n) {
            count(look, look->router->stats.too_large);
            return config->read_whole_body ? -EFBIG : 1;
        }
    }
    if (look->repeated)
        count(look, look->router->stats.repeated);
    return verdict != JSON_BAD && !look->repeated;
}

/* Whether the request goes on. */
static bool look_at_body(struct look *look) {
    const struct json_router_stats *stats = &look->router->stats;
    struct exchange *x = look->x;
    bool strict = look->router->config->on_invalid == CFG_JSON_REJECT;
    struct json_body *body = json_body_wrap(x);
    if (!body) {
        reply(look, 500, span_none(), SPAN_LIT("json_router_out_of_memory"));
        return false;
    }
    count(look, stats->scanned);
    int rc = scan_body(look, body);
    stat_add(stats->copied_bytes, x->shard, (int64_t)body->copied_bytes);
    if (look->out_of_memory)
        reply(look, 500, span_none(), SPAN_LIT("json_router_out_of_memory"));
    else if (rc < 0 && rc != -EFBIG)
        body_failed(look, rc);
    if (!exchange_alive(x))
        return false;
    if (rc == 1)
        return true;
    if (rc == 0)
        count(look, stats->invalid);
    if (strict && rc == 0) {
        reject(look);
        return false;
    }
    if (strict) {
        count(look, stats->rejected);
        reply(look, 413, SPAN_LIT("the JSON body is too large to be checked"),
              SPAN_LIT("request_payload_too_large"));
        return false;
    }
    forget_values(look); /* half of a body says nothing */
    return true;
}

/* ---- what was found ---- */

static bool is_text(const struct found_value *value) {
    return value->kind == JSON_STRING || value->kind == JSON_NUMBER || value->kind == JSON_TRUE ||
           value->kind == JSON_FALSE;
}

static bool fits_a_header(const struct found_value *value) {
    return is_text(value) && !value->too_long && header_value_is_valid(value->text) &&
           span_trim(value->text).len == value->text.len;
}

/* -ENOMEM. */
static int set_metadata(const struct look *look, const struct json_rule *rule,
                        const struct found_value *value) {
    struct cfg_value out = {.kind = CFG_VALUE_STRING, .string = value->text};
    if (value->kind == JSON_NUMBER && cfg_parse_double(value->text, &out.number))
        out.kind = CFG_VALUE_NUMBER;
    if (value->kind == JSON_TRUE || value->kind == JSON_FALSE) {
        out.kind = CFG_VALUE_BOOL;
        out.boolean = value->kind == JSON_TRUE;
    }
    struct metadata *metadata = exchange_metadata(look->x);
    return metadata ? metadata_set(metadata, rule->metadata_namespace, rule->metadata_key, &out)
                    : -ENOMEM;
}

/* A header that an earlier rule has set stays. */
static int set_header(const struct look *look, const struct json_rule *rule, struct span value) {
    struct header_map *headers = &look->x->request.headers;
    if (!rule->header.len || header_find(headers, rule->id, rule->header, 0) >= 0)
        return 0;
    return header_add(headers, rule->id, rule->header, value);
}

/* -errno of a header or of metadata that could not be set. */
static int tell(const struct look *look) {
    const struct json_router *router = look->router;
    bool all = true;
    int rc = 0;
    for (uint32_t i = 0; i < router->rule_count && rc == 0; i++) {
        const struct found_value *value = &look->values[i];
        const struct json_rule *rule = &router->rules[i];
        bool missing = !value->found || value->kind == JSON_NULL;
        bool usable = !missing && is_text(value) && !value->too_long;
        if (usable && rule->metadata_key.len)
            rc = set_metadata(look, rule, value);
        usable = usable && (!rule->header.len || fits_a_header(value));
        if (rc == 0 && usable)
            rc = set_header(look, rule, value->text);
        all = all && usable;
        if (!usable)
            count(look, missing ? router->stats.missing : router->stats.unusable);
    }
    for (uint32_t i = 0; i < router->rule_count && rc == 0; i++)
        if (router->rules[i].on_missing.len)
            rc = set_header(look, &router->rules[i], router->rules[i].on_missing);
    if (all)
        count(look, router->stats.found_all);
    return rc;
}

static void remove_headers(const struct look *look) {
    for (uint32_t i = 0; i < look->router->rule_count; i++)
        if (look->router->rules[i].header.len)
            (void)header_remove(&look->x->request.headers, look->router->rules[i].id,
                                look->router->rules[i].header);
}

static void json_router_request(struct exchange *x, void *self) {
    const struct json_router *router = self;
    const struct header_map *headers = &x->request.headers;
    struct look look; /* of which a request without a body pays for little */
    look_init(&look, x, router);
    bool allowed = type_is_allowed(router->config, header_get(headers, HDR_CONTENT_TYPE)) &&
                   !is_encoded(headers);
    remove_headers(&look);
    if (!message_has_body(&x->request))
        count(&look, router->stats.no_body);
    else if (!allowed)
        count(&look, router->stats.not_json);
    else if (!look_at_body(&look))
        return;
    if (tell(&look) != 0) {
        reply(&look, 500, span_none(), SPAN_LIT("request_headers_failed"));
        return;
    }
    if (router->config->clear_route_cache)
        exchange_clear_route(x);
}

static const struct filter_itab json_router_itab = {
    .name = "sluice.filters.http.json_router",
    .request = json_router_request,
};

const struct filter_kind filter_kind_json_router = {
    .itab = &json_router_itab,
    .schema = &cfg_schema_json_router,
    .build = json_router_build,
    .free_config = json_router_free,
};
