#include "ext/go/go_quarantine.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct go_quarantine_list kept; /* under lock; oldest first */

struct span go_quarantine_keep(struct go_quarantine_list *list, struct span text) {
    for (const struct go_quarantined *q = list->first; q; q = q->next)
        if (span_eq(span_make(q->bytes, q->len), text))
            return span_make(q->bytes, q->len);
    struct go_quarantined *q = malloc(sizeof *q + text.len + 1);
    if (!q)
        return span_none();
    q->next = NULL;
    q->len = text.len;
    if (text.len)
        memcpy(q->bytes, text.ptr, text.len);
    q->bytes[text.len] = 0;
    if (list->last)
        list->last->next = q;
    else
        list->first = q;
    list->last = q;
    list->bytes += sizeof *q + text.len;
    return span_make(q->bytes, q->len);
}

/* Takes out what is too old; the rest stays. */
static struct go_quarantined *take_old_locked(void) {
    struct go_quarantined *old = kept.first, *end = NULL;
    while (kept.first && kept.bytes > GO_QUARANTINE_BYTES) {
        end = kept.first;
        kept.bytes -= sizeof *end + end->len;
        kept.first = end->next;
    }
    if (!end)
        return NULL;
    end->next = NULL;
    if (!kept.first)
        kept.last = NULL;
    return old;
}

void go_quarantine_put(struct go_quarantine_list *list) {
    if (!list->first)
        return;
    pthread_mutex_lock(&lock);
    if (kept.last)
        kept.last->next = list->first;
    else
        kept.first = list->first;
    kept.last = list->last;
    kept.bytes += list->bytes;
    struct go_quarantined *old = take_old_locked();
    pthread_mutex_unlock(&lock);
    *list = (struct go_quarantine_list){0};
    while (old) {
        struct go_quarantined *next = old->next;
        free(old);
        old = next;
    }
}
