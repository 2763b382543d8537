/* samples: slots on shelves that are never given back, and a hash table from addresses to slots, in
 * shards with a lock each. A slot's shard is that of its address, or of the thread that made it.
 *
 *     shard: lock | buckets -> slot -> slot | free -> slot -> slot | shelves -> [ slot slot slot ... ]
 *
 * What malloc hands out is looked up at each free in the range of sampled objects; what is handed out by
 * mem/ keeps a pointer to its slot. Once per half a MiB that is allocated somebody takes a lock that one
 * in SHARDS others could want.
 *
 *   L1  An address is in the table once. One that comes again (its free went past us, by __libc_free) takes
 *       the place of the former, which is counted as freed.
 *   L2  All of a shard is guarded by its lock. Under it nothing is allocated but from own.h, and nothing
 *       is freed.
 * Rejected  A header before each sampled object: free could not tell it from one that is in the range and
 *       was not sampled. The list of all live ones instead of shelves: min_age is asked rarely. */
#include "heap/samples.h"

#include <pthread.h>

#include "base/clock.h"
#include "heap/own.h"

enum { SHARDS = 32, SHELF_SLOTS = 128, BUCKETS_MIN = 64 };

struct sample {
    struct sample *next; /* in the bucket, or of the free ones */
    const void *address;
    struct site *site; /* NULL: free */
    struct site_count object;
    int64_t born_ns;
    unsigned shard;
};

struct shelf {
    struct shelf *next;
    struct sample slots[SHELF_SLOTS];
};

static struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    struct sample **buckets;
    uint64_t bucket_count, addressed; /* a power of 2; samples with an address */
    struct sample *free;
    struct shelf *shelves;
} shards[SHARDS] = {[0 ... SHARDS - 1] = {.mutex = PTHREAD_MUTEX_INITIALIZER}};

static _Atomic int64_t live_bytes; /* of those with addresses */

static uint64_t hash_of(const void *address) {
    uint64_t hash = ((uintptr_t)address >> 4) * 0x9e3779b97f4a7c15U;
    return hash ^ (hash >> 29);
}

/* ---- Slots ---- */

static bool make_shelf(struct shard *shard) {
    struct shelf *shelf = own_memory(sizeof *shelf);
    if (!shelf)
        return false;
    shelf->next = shard->shelves;
    shard->shelves = shelf;
    for (unsigned i = 0; i < SHELF_SLOTS; i++) {
        shelf->slots[i].shard = (unsigned)(shard - shards);
        shelf->slots[i].next = shard->free;
        shard->free = &shelf->slots[i];
    }
    return true;
}

static struct sample *get_slot(struct shard *shard) {
    if (!shard->free && !make_shelf(shard))
        return NULL;
    struct sample *slot = shard->free;
    shard->free = slot->next;
    return slot;
}

static void give_slot(struct shard *shard, struct sample *slot) {
    slot->site = NULL;
    slot->next = shard->free;
    shard->free = slot;
}

/* ---- Addresses ---- */

static void add_live(int64_t bytes) {
    atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
}

int64_t samples_live_bytes(void) {
    return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}

static struct sample **bucket_of(struct shard *shard, const void *address) {
    return &shard->buckets[hash_of(address) / SHARDS & (shard->bucket_count - 1)];
}

/* Without memory the buckets get fuller; without any there is nowhere to put one. */
static bool make_room(struct shard *shard) {
    if (shard->addressed < shard->bucket_count)
        return true;
    uint64_t former_count = shard->bucket_count;
    struct sample **former = shard->buckets;
    uint64_t count = former_count ? former_count * 4 : BUCKETS_MIN;
    struct sample **buckets = own_map(count * sizeof(struct sample *));
    if (!buckets)
        return former_count > 0;
    shard->buckets = buckets;
    shard->bucket_count = count;
    for (uint64_t i = 0; i < former_count; i++) {
        while (former[i]) {
            struct sample *sample = former[i];
            former[i] = sample->next;
            struct sample **bucket = bucket_of(shard, sample->address);
            sample->next = *bucket;
            *bucket = sample;
        }
    }
    if (former)
        own_unmap(former, former_count * sizeof(struct sample *));
    return true;
}

static struct sample *unlink_address(struct shard *shard, const void *address) {
    if (shard->bucket_count == 0)
        return NULL;
    struct sample **link = bucket_of(shard, address);
    while (*link && (*link)->address != address)
        link = &(*link)->next;
    struct sample *sample = *link;
    if (sample) {
        *link = sample->next;
        shard->addressed--;
        add_live(-sample->object.bytes);
    }
    return sample;
}

/* ---- What comes and goes ---- */

static struct shard *shard_for(const void *address) {
    static _Thread_local char here __attribute__((tls_model("initial-exec")));
    return &shards[hash_of(address ? address : &here) % SHARDS];
}

static struct sample *put(struct shard *shard, const struct sample *filled, struct sample *former) {
    struct sample *sample = get_slot(shard);
    if (sample && filled->address && !make_room(shard)) {
        give_slot(shard, sample);
        sample = NULL;
    }
    if (!sample)
        return NULL;
    struct sample *ghost = filled->address ? unlink_address(shard, filled->address) : NULL;
    if (ghost) {
        *former = *ghost; /* L1 */
        give_slot(shard, ghost);
    }
    *sample = *filled;
    if (sample->address) {
        struct sample **bucket = bucket_of(shard, sample->address);
        sample->next = *bucket;
        *bucket = sample;
        shard->addressed++;
        add_live(sample->object.bytes);
    }
    return sample;
}

struct sample *samples_add(struct site *site, const void *address,
                           const struct site_count *object) {
    struct shard *shard = shard_for(address);
    struct sample filled = {
        .address = address,
        .site = site,
        .object = *object,
        .born_ns = clock_mono_ns(),
        .shard = (unsigned)(shard - shards),
    };
    struct sample former = {.site = NULL};
    pthread_mutex_lock(&shard->mutex);
    struct sample *sample = put(shard, &filled, &former);
    pthread_mutex_unlock(&shard->mutex);
    if (former.site)
        sites_count(former.site, SITE_FREED, &former.object);
    if (sample)
        sites_count(site, SITE_ALLOCATED, object);
    return sample;
}

void samples_gone(struct sample *sample) {
    struct shard *shard = &shards[sample->shard];
    struct sample gone = *sample;
    pthread_mutex_lock(&shard->mutex);
    give_slot(shard, sample);
    pthread_mutex_unlock(&shard->mutex);
    sites_count(gone.site, SITE_FREED, &gone.object);
}

void samples_take(const void *address) {
    struct shard *shard = shard_for(address);
    struct sample taken = {.site = NULL};
    pthread_mutex_lock(&shard->mutex);
    struct sample *sample = unlink_address(shard, address);
    if (sample) {
        taken = *sample;
        give_slot(shard, sample);
    }
    pthread_mutex_unlock(&shard->mutex);
    if (taken.site)
        sites_count(taken.site, SITE_FREED, &taken.object);
}

void samples_sum_aged(int64_t born_ns) {
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&shards[i].mutex);
        for (struct shelf *shelf = shards[i].shelves; shelf; shelf = shelf->next) {
            for (unsigned s = 0; s < SHELF_SLOTS; s++) {
                struct sample *sample = &shelf->slots[s];
                if (sample->site && sample->born_ns <= born_ns) {
                    sample->site->aged.objects += sample->object.objects;
                    sample->site->aged.bytes += sample->object.bytes;
                }
            }
        }
        pthread_mutex_unlock(&shards[i].mutex);
    }
}

/* ---- Forks ---- */

void samples_lock(void) {
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_lock(&shards[i].mutex);
}

void samples_unlock(void) {
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_unlock(&shards[i].mutex);
}
