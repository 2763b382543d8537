/* labels: one allocation per set, which is never written again.
 *
 *     refs | count | items[count] | the bytes of all keys and values
 *
 * A coroutine's set is a coroutine-local value that its children inherit as one more lease; a dump on
 * another thread takes a lease in the same way (local.c, L3). Children may end on other Ps, so the count
 * is atomic.
 *
 * A signal handler that interrupts the coroutine between any two instructions finds the former set or
 * the new one: the pointer changes by one store, and the former is given back after that.
 *
 * A describer is found in the same way, and asked by whoever finds it, so for the coroutine it is one
 * pointer. After labels_describe_by the former one is not asked any more: a handler runs before its store
 * or after it, a dump only while the coroutine is suspended.
 *
 * Order  The last unref acquires what the others released, before the memory goes back. */
#include "rt/labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/local.h"
#include "rt/panic.h"
#include "rt/profile_thread.h"
#include "rt/rt_internal.h"

static void give_back(void *value) {
    labels_unref(value);
}

static void *lease(void *value) {
    return labels_ref(value);
}

static struct local_key labels_key = {.name = "labels", .destroy = give_back, .inherit = lease};

struct builder {
    unsigned count;
    struct label items[LABELS_MAX];
};

/* False when there is no room. */
static bool put_label(struct builder *all, struct label label) {
    for (unsigned i = 0; i < all->count; i++) {
        if (strcmp(all->items[i].key, label.key) == 0) {
            all->items[i].value = label.value;
            return true;
        }
    }
    if (all->count == LABELS_MAX)
        return false;
    all->items[all->count++] = label;
    return true;
}

static void put_set(struct builder *all, const struct labels *labels) {
    for (unsigned i = 0; labels && i < labels->count; i++)
        (void)put_label(all, labels->items[i]); /* a set has room */
}

static const char *copy_text(char **at, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

/* Of copies of all texts. NULL when memory is short. */
static struct labels *build(const struct builder *all) {
    size_t size = sizeof(struct labels) + all->count * sizeof(struct label);
    size_t text_size = 0;
    for (unsigned i = 0; i < all->count; i++)
        text_size += strlen(all->items[i].key) + 1 + strlen(all->items[i].value) + 1;
    struct labels *labels = malloc(size + text_size);
    if (!labels)
        return NULL;
    atomic_init(&labels->refs, 1);
    labels->count = all->count;
    char *text = (char *)labels + size;
    for (unsigned i = 0; i < all->count; i++) {
        labels->items[i].key = copy_text(&text, all->items[i].key);
        labels->items[i].value = copy_text(&text, all->items[i].value);
    }
    return labels;
}

struct labels *labels_with(const struct labels *base, const struct label *add, unsigned count) {
    struct builder all = {0};
    put_set(&all, base);
    for (unsigned i = 0; i < count; i++) {
        bool has_room = put_label(&all, add[i]);
        ASSERT(has_room);
    }
    return build(&all);
}

struct labels *labels_merge(const struct labels *base, const struct label *add, unsigned count) {
    if (count == 0)
        return base ? labels_ref(base) : NULL;
    struct builder all = {0};
    put_set(&all, base);
    for (unsigned i = 0; i < count; i++)
        (void)put_label(&all, add[i]);
    return build(&all);
}

struct labels *labels_ref(const struct labels *labels) {
    union {
        const struct labels *shared;
        struct labels *labels;
    } counted = {.shared = labels}; /* const is what is shared, the count is not part of that */
    atomic_fetch_add_explicit(&counted.labels->refs, 1, memory_order_relaxed);
    return counted.labels;
}

void labels_unref(struct labels *labels) {
    if (labels && atomic_fetch_sub_explicit(&labels->refs, 1, memory_order_acq_rel) == 1)
        free(labels);
}

void labels_set(struct labels *labels) {
    local_set(&labels_key, labels);
}

const struct labels *labels_current(void) {
    return local_get(&labels_key);
}

int labels_add(const struct label *add, unsigned count) {
    struct labels *labels = labels_with(labels_current(), add, count);
    if (!labels)
        return -ENOMEM;
    labels_set(labels);
    return 0;
}

static void put_back(void *former) {
    labels_set(former);
}

void labels_do(const struct label *add, unsigned count, rt_fn fn, void *arg) {
    struct labels *labels = labels_with(labels_current(), add, count);
    if (!labels) {
        fn(arg);
        return;
    }
    void *former = local_swap(&labels_key, labels);
    struct deferred restoring;
    defer_begin(&restoring, put_back, former);
    fn(arg);
    defer_end(&restoring);
}

const struct labels *labels_of(const struct g *g) {
    return local_of(g, &labels_key);
}

void labels_describe_by(const struct labels_describer *describer) {
    struct g *g = rt_self();
    ASSERT(g);
    atomic_store_explicit(&g->describer, describer, memory_order_release);
    /* What the caller does next, as to free the former one, stays behind the store for the compiler too;
     * for a handler on this thread that is all it takes. */
    atomic_signal_fence(memory_order_seq_cst);
}

static unsigned described_by(const struct labels_describer *describer,
                             struct label out[LABELS_DESCRIBED_MAX]) {
    if (!describer)
        return 0;
    unsigned count = describer->describe(describer, out, LABELS_DESCRIBED_MAX);
    ASSERT(count <= LABELS_DESCRIBED_MAX);
    return count;
}

unsigned labels_described(const struct g *g, struct label out[LABELS_DESCRIBED_MAX]) {
    return described_by(atomic_load_explicit(&g->describer, memory_order_acquire), out);
}

size_t labels_told(const struct g *g, char out[LABELS_TOLD_MAX + 1]) {
    const struct labels_describer *describer =
        atomic_load_explicit(&g->describer, memory_order_acquire);
    size_t len =
        describer && describer->tell ? describer->tell(describer, out, LABELS_TOLD_MAX) : 0;
    ASSERT(len <= LABELS_TOLD_MAX);
    out[len] = '\0';
    return len;
}

struct labels *labels_snapshot(void) {
    const struct g *g = profile_thread_g();
    struct label described[LABELS_DESCRIBED_MAX];
    if (!g) { /* the poller may take memory for somebody */
        const struct p *p = p_self();
        unsigned told = p ? described_by(p->receives_for, described) : 0;
        return labels_merge(NULL, described, told);
    }
    unsigned count = labels_described(g, described);
    struct labels *labels = labels_merge(labels_of(g), described, count);
    return labels || count == 0 ? labels : labels_merge(labels_of(g), NULL, 0);
}

struct labels *labels_lease(struct g *g) {
    return local_lease(g, &labels_key);
}

int label_compare(const struct label *one, const struct label *other) {
    int order = one->key == other->key ? 0 : strcmp(one->key, other->key);
    if (order == 0 && one->value != other->value)
        order = strcmp(one->value, other->value);
    return order;
}

int labels_compare(const struct labels *one, const struct labels *other) {
    if (one == other || !one || !other)
        return !!one - !!other;
    if (one->count != other->count)
        return one->count < other->count ? -1 : 1;
    for (unsigned i = 0; i < one->count; i++) {
        int order = label_compare(&one->items[i], &other->items[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

struct writer {
    char *out;
    size_t len, size;
};

static void put_char(struct writer *to, char c) {
    if (to->len < to->size - 1)
        to->out[to->len++] = c;
}

static void put_text(struct writer *to, const char *text) {
    while (*text)
        put_char(to, *text++);
}

/* ']' too: tools look for the first one in the header of a dump's entry. */
static void put_quoted(struct writer *to, const char *text) {
    put_char(to, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char escape[8];
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", c);
        else if (c < ' ' || c == 0x7f || c == ']')
            snprintf(escape, sizeof escape, "\\x%02x", c);
        else
            snprintf(escape, sizeof escape, "%c", c);
        put_text(to, escape);
    }
    put_char(to, '"');
}

size_t labels_text(const struct labels *labels, char *out, size_t size) {
    ASSERT(size > 0);
    struct writer to = {.out = out, .size = size};
    for (unsigned i = 0; labels && i < labels->count; i++) {
        put_text(&to, i == 0 ? "{" : ", ");
        put_quoted(&to, labels->items[i].key);
        put_text(&to, ": ");
        put_quoted(&to, labels->items[i].value);
        if (i + 1 == labels->count)
            put_char(&to, '}');
    }
    out[to.len] = '\0';
    return to.len;
}
