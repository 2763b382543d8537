/* certs_page: /certs: the certificates that are shown and trusted, as Envoy's JSON has them. */
#include <time.h>

#include "admin/json.h"
#include "admin/page.h"
#include "base/clock.h"
#include "filter/transport_tls.h"

static void put_time(struct json *json, const char *key, int64_t seconds) {
    char text[32];
    struct tm tm;
    time_t at = seconds;
    size_t len = gmtime_r(&at, &tm) ? strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) : 0;
    json_field(json, key, span_make(text, len));
}

static void put_sans(struct json *json, const struct tls_identity *identity) {
    json_key(json, "subject_alt_names");
    json_open(json, '[');
    for (size_t i = 0; i < identity->san_count; i++) {
        const struct tls_san *san = &identity->sans[i];
        const char *key = san->type == TLS_SAN_DNS  ? "dns"
                          : san->type == TLS_SAN_IP ? "ip_address"
                                                    : "uri";
        if (san->type == TLS_SAN_EMAIL)
            continue; /* Envoy's message has no place for it */
        json_open(json, '{');
        json_field(json, key, san->value);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_certificate(struct json *json, const struct tls_identity *identity,
                            struct span path) {
    int64_t left_s = identity->not_after_s - clock_wall_ns() / NS_PER_S;
    json_open(json, '{');
    json_field(json, "path", path);
    json_field(json, "serial_number", identity->serial);
    put_sans(json, identity);
    json_field_u64_string(json, "days_until_expiration", left_s > 0 ? (uint64_t)left_s / 86400 : 0);
    put_time(json, "valid_from", identity->not_before_s);
    put_time(json, "expiration_time", identity->not_after_s);
    json_close(json, '}');
}

static void put_context(const struct transport_tls_view *view, void *arg) {
    struct json *json = arg;
    json_open(json, '{');
    json_key(json, "ca_cert");
    json_open(json, '[');
    for (size_t i = 0; i < view->authority_count; i++)
        put_certificate(json, &view->authorities[i], view->authority_path);
    json_close(json, ']');
    json_key(json, "cert_chain");
    json_open(json, '[');
    for (size_t i = 0; i < view->certificate_count; i++)
        put_certificate(json, &view->certificates[i], view->paths[i]);
    json_close(json, ']');
    json_close(json, '}');
}

void page_certs(const struct query *query, struct page *page) {
    page->content_type = content_type_json;
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_key(&json, "certificates");
    json_open(&json, '[');
    transport_tls_each(put_context, &json);
    json_close(&json, ']');
    json_close(&json, '}');
}
