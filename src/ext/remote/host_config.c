/* host_config: see the header. Looked for once per stream, unless it is the seat's last one (host_stream.c). */
#include "ext/remote/host_config.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct node {
    struct node *next;
    struct host_config config;
};

enum { BUCKETS = 1 << 12 }; /* as many as a large configuration has; more only take longer */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *buckets[BUCKETS];

/* Where it hangs, or would. */
static struct node **place_locked(uint64_t id) {
    struct node **place = &buckets[id % BUCKETS];
    while (*place && (*place)->config.id != id)
        place = &(*place)->next;
    return place;
}

int host_config_keep(const struct host_config *config) {
    struct node *node = malloc(sizeof(*node));
    if (!node)
        return -ENOMEM;
    pthread_mutex_lock(&lock);
    struct node **place = place_locked(config->id);
    ASSERT(!*place); /* the proxy's ids are used once */
    *node = (struct node){.config = *config};
    *place = node;
    pthread_mutex_unlock(&lock);
    return 0;
}

bool host_config_find(uint64_t id, struct host_config *out) {
    pthread_mutex_lock(&lock);
    const struct node *found = *place_locked(id);
    if (found)
        *out = found->config;
    pthread_mutex_unlock(&lock);
    return found != NULL;
}

bool host_config_take(uint64_t id, struct host_config *out) {
    pthread_mutex_lock(&lock);
    struct node **place = place_locked(id);
    struct node *found = *place;
    if (found)
        *place = found->next;
    pthread_mutex_unlock(&lock);
    if (found)
        *out = found->config;
    free(found);
    return found != NULL;
}

void host_config_take_all(void (*fn)(const struct host_config *config)) {
    for (unsigned i = 0; i < BUCKETS; i++) {
        pthread_mutex_lock(&lock);
        struct node *node = buckets[i];
        buckets[i] = NULL;
        pthread_mutex_unlock(&lock);
        while (node) {
            struct node *next = node->next;
            fn(&node->config);
            free(node);
            node = next;
        }
    }
}
