/* intern: a hash table of chains that only grows. Configurations are loaded a few times a day, so one
 * mutex is enough, and the table has a fixed size: some thousand names make chains of a few. */
#include "base/intern.h"

#include <assert.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

enum { BUCKETS = 1024 };

struct copy {
    struct copy *next;
    size_t len;
    char text[];
};

static_assert(offsetof(struct copy, text) % alignof(max_align_t) == 0, "as by malloc");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all below */
static struct copy *buckets[BUCKETS];
static size_t used_bytes;

static struct copy *copy_locked(struct span text, size_t max_bytes) {
    size_t bytes = sizeof(struct copy) + text.len + 1;
    if (max_bytes < used_bytes || max_bytes - used_bytes < bytes)
        return NULL;
    struct copy *copy = malloc(bytes);
    if (!copy)
        return NULL;
    copy->len = text.len;
    if (text.len)
        memcpy(copy->text, text.ptr, text.len);
    copy->text[text.len] = '\0';
    used_bytes += bytes;
    return copy;
}

const char *intern(struct span text, size_t max_bytes) {
    struct copy **bucket = &buckets[span_hash(SPAN_HASH, text) % BUCKETS];
    pthread_mutex_lock(&lock);
    struct copy *copy = *bucket;
    while (copy && !span_eq(span_make(copy->text, copy->len), text))
        copy = copy->next;
    if (!copy && (copy = copy_locked(text, max_bytes))) {
        copy->next = *bucket;
        *bucket = copy;
    }
    pthread_mutex_unlock(&lock);
    return copy ? copy->text : NULL;
}
