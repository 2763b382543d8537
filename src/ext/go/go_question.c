/* go_question: see the header.
 *
 * The handle and what it stands for are made for each question: a malloc and a few dozen instructions, of the microseconds
 * that the way into Go and back takes. */
#include "ext/go/go_question.h"

#include <stdlib.h>

#include "ext/ext_handles.h"

const char go_question_key[] = "cluster specifier";

static void finalize(void *object, const void *key) {
    struct go_question *question = object;
    (void)pthread_mutex_destroy(&question->lock); /* nobody has a lease any more */
    free(question);
}

struct go_question *go_question_open(const struct header_map *headers, unsigned shard,
                                     uint64_t *handle) {
    struct go_question *question = calloc(1, sizeof *question);
    if (!question)
        return NULL;
    (void)pthread_mutex_init(&question->lock, NULL); /* cannot fail with default attributes */
    question->headers = headers;
    *handle = handle_make(
        &ext_handles, shard,
        &(struct handle_object){
            .object = question, .key = go_question_key, .finalize = finalize, .leased = true});
    if (*handle)
        return question;
    finalize(question, NULL);
    return NULL;
}

struct go_counts go_question_close(struct go_question *question, uint64_t handle) {
    pthread_mutex_lock(&question->lock);
    question->headers = NULL;
    go_quarantine_put(&question->texts);
    const struct go_counts counts = question->counts;
    pthread_mutex_unlock(&question->lock);
    (void)handle_destroy(&ext_handles, handle, go_question_key); /* only we do that */
    handle_release(&ext_handles, handle);
    return counts;
}
