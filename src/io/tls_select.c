/* tls_select: which certificate a server shows, by the name that the client asks for, as Envoy chooses: one that has
 * the name itself; one with a wildcard for its first label; else the default. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "io/tls_internal.h"

static int compare_spans(struct span a, struct span b) {
    size_t least = a.len < b.len ? a.len : b.len;
    int order = least ? memcmp(a.ptr, b.ptr, least) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare(bool a_is_wildcard, struct span a, bool b_is_wildcard, struct span b) {
    return a_is_wildcard != b_is_wildcard ? a_is_wildcard - b_is_wildcard : compare_spans(a, b);
}

static int compare_entries(const void *left, const void *right) {
    const struct tls_name_entry *a = left, *b = right;
    return compare(a->is_wildcard, a->name, b->is_wildcard, b->name);
}

void tls_names_sort(struct tls_names *names) {
    if (names->count)
        qsort(names->entries, names->count, sizeof names->entries[0], compare_entries);
}

static const struct tls_name_entry *find(const struct tls_names *names, bool is_wildcard,
                                         struct span name) {
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct tls_name_entry *entry = &names->entries[middle];
        int order = compare(is_wildcard, name, entry->is_wildcard, entry->name);
        if (order == 0)
            return entry;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

SSL_CTX *tls_names_find(const struct tls_names *names, const char *server_name) {
    char lower[256];
    size_t len = strlen(server_name);
    if (len >= sizeof lower)
        return NULL;
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)tolower((unsigned char)server_name[i]);
    const struct tls_name_entry *entry = find(names, false, span_make(lower, len));
    const char *dot = memchr(lower, '.', len);
    if (!entry && dot && dot > lower)
        entry = find(names, true, span_make(dot, len - (size_t)(dot - lower)));
    return entry ? entry->ctx : NULL;
}

void tls_names_free(struct tls_names *names) {
    for (size_t i = 0; i < names->count; i++) {
        SSL_CTX_free(names->entries[i].ctx);
        free((char *)(uintptr_t)names->entries[i].name.ptr);
    }
    free(names->entries);
}
