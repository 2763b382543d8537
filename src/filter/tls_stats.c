/* tls_stats: counters by name are looked up in a small table of pointers that are only ever added, so a handshake takes
 * no lock once its algorithms have been seen. Which algorithms a peer may bring about is OpenSSL's list, not the
 * peer's invention, so the table cannot be filled by strangers; what does not fit is looked up with the lock each time.
 *
 * Order  A pointer is released into its place after what it points to was written, and acquired by readers. Two Ps may
 *        add the same name: they get the same statistic, and one of the entries is never found. */
#include "filter/tls_stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_name_count {
    const struct statistic *stat;
    size_t len;
    char name[];
};

static struct statistic *counter(const struct tls_stats *stats, const char *suffix) {
    return stats_get_tagged(STAT_COUNTER, stats->prefix, stats->tag, span_of(stats->owner), suffix);
}

int tls_stats_init(struct tls_stats *stats, struct span owner) {
    memset(stats, 0, sizeof *stats);
    size_t dot = 0;
    while (dot < owner.len && owner.ptr[dot] != '.')
        dot++;
    size_t rest = dot < owner.len ? dot + 1 : owner.len;
    stats->owner = strndup(owner.ptr + rest, owner.len - rest);
    if (!stats->owner)
        return -ENOMEM;
    snprintf(stats->prefix, sizeof stats->prefix, "%.*s", (int)dot, owner.ptr);
    bool is_listener = strcmp(stats->prefix, "listener") == 0;
    snprintf(stats->tag, sizeof stats->tag, "%s",
             is_listener ? "envoy.listener_address" : "envoy.cluster_name");
    const struct {
        const struct statistic **into;
        const char *name;
    } table[] = {
        {&stats->connection_error, "ssl.connection_error"},
        {&stats->handshake, "ssl.handshake"},
        {&stats->session_reused, "ssl.session_reused"},
        {&stats->no_certificate, "ssl.no_certificate"},
        {&stats->fail_verify_no_cert, "ssl.fail_verify_no_cert"},
        {&stats->fail_verify_error, "ssl.fail_verify_error"},
        {&stats->fail_verify_san, "ssl.fail_verify_san"},
        {&stats->fail_verify_cert_hash, "ssl.fail_verify_cert_hash"},
        {&stats->truncated, "ssl.end_without_close_notify"},
        {&stats->update_failed, "ssl.context_update_failed"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        *table[i].into = counter(stats, table[i].name);
    /* What Envoy has and nothing here ever does: there, so that dashboards find it. */
    static const char *const zeros[] = {"ssl.ocsp_staple_failed", "ssl.ocsp_staple_omitted",
                                        "ssl.ocsp_staple_responses", "ssl.ocsp_staple_requests",
                                        "ssl.was_key_usage_invalid"};
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        (void)counter(stats, zeros[i]);
    const char *factory = is_listener ? "server_ssl_socket_factory" : "client_ssl_socket_factory";
    char name[96];
    snprintf(name, sizeof name, "%s.ssl_context_update_by_sds", factory);
    stats->update = counter(stats, name);
    snprintf(name, sizeof name, "%s.%s_context_secrets_not_ready", factory,
             is_listener ? "downstream" : "upstream");
    (void)counter(stats, name);
    stats->ciphers.group = "ssl.ciphers";
    stats->versions.group = "ssl.versions";
    stats->curves.group = "ssl.curves";
    stats->sigalgs.group = "ssl.sigalgs";
    return 0;
}

static void free_names(struct tls_name_counts *counts) {
    for (unsigned i = 0; i < TLS_NAMES_MAX; i++)
        free((void *)(uintptr_t)atomic_load_explicit(&counts->known[i], memory_order_relaxed));
}

void tls_stats_fini(struct tls_stats *stats) {
    free_names(&stats->ciphers);
    free_names(&stats->versions);
    free_names(&stats->curves);
    free_names(&stats->sigalgs);
    free(stats->owner);
}

static const struct tls_name_count *entry_new(const struct statistic *stat, struct span name) {
    struct tls_name_count *entry = malloc(sizeof *entry + name.len);
    if (!entry)
        return NULL;
    entry->stat = stat;
    entry->len = name.len;
    memcpy(entry->name, name.ptr, name.len);
    return entry;
}

static void count_name(const struct tls_stats *stats, struct tls_name_counts *counts,
                       struct span name, unsigned shard) {
    if (name.len == 0)
        return;
    unsigned i = 0;
    for (; i < TLS_NAMES_MAX; i++) {
        const struct tls_name_count *entry =
            atomic_load_explicit(&counts->known[i], memory_order_acquire);
        if (!entry)
            break;
        if (span_eq(span_make(entry->name, entry->len), name)) {
            stat_inc(entry->stat, shard);
            return;
        }
    }
    char suffix[96];
    snprintf(suffix, sizeof suffix, "%s.%.*s", counts->group, (int)name.len, name.ptr);
    const struct statistic *stat = counter(stats, suffix);
    stat_inc(stat, shard);
    const struct tls_name_count *none = NULL,
                                *entry = i < TLS_NAMES_MAX ? entry_new(stat, name) : NULL;
    if (entry && !atomic_compare_exchange_strong_explicit(
                     &counts->known[i], &none, entry, memory_order_release, memory_order_relaxed))
        free((void *)(uintptr_t)
                 entry); /* another P was first; next time it will be found, or added */
}

void tls_stats_handshake(struct tls_stats *stats, unsigned shard, const struct tls_facts *facts) {
    stat_inc(stats->handshake, shard);
    if (facts->resumed)
        stat_inc(stats->session_reused, shard);
    if (!facts->has_peer_certificate)
        stat_inc(stats->no_certificate, shard);
    count_name(stats, &stats->ciphers, facts->cipher, shard);
    count_name(stats, &stats->versions, facts->version, shard);
    count_name(stats, &stats->curves, facts->group, shard);
    count_name(stats, &stats->sigalgs, facts->signature, shard);
}

void tls_stats_fault(const struct tls_stats *stats, unsigned shard, enum tls_fault_kind kind) {
    switch (kind) {
    case TLS_FAULT_PROTOCOL:
        stat_inc(stats->connection_error, shard);
        break;
    case TLS_FAULT_NO_CERTIFICATE:
        stat_inc(stats->fail_verify_no_cert, shard);
        break;
    case TLS_FAULT_VERIFY:
        stat_inc(stats->fail_verify_error, shard);
        break;
    case TLS_FAULT_SAN:
        stat_inc(stats->fail_verify_san, shard);
        break;
    case TLS_FAULT_HASH:
        stat_inc(stats->fail_verify_cert_hash, shard);
        break;
    case TLS_FAULT_NONE:
    case TLS_FAULT_SOCKET:
        break;
    }
}
