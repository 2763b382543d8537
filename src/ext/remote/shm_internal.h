/* shm_internal: what shm.c (making, sending, mapping) and shm_slot.c (answers) share. */
#pragma once
#include "base/list.h"
#include "ext/remote/shm.h"

/* A slot's shared word: a futex. Else it is the length of the answer, with SLOT_ANSWERED. */
enum { SLOT_ASKED = 0, SLOT_ASLEEP = 1 };
#define SLOT_ANSWERED 0x80000000U

struct remote_slot_word {
    _Alignas(64) _Atomic uint32_t state;
};

/* The name is there with its length. */
struct remote_gauge {
    _Alignas(128) _Atomic int64_t value;
    _Atomic uint32_t name_len;
    char name[REMOTE_GAUGE_NAME_MAX];
};

enum slot_use { SLOT_FREE, SLOT_TAKEN, SLOT_LEFT /* and the answer has not come yet */ };

struct remote_shm {
    struct remote_shm_layout layout;
    int fd;
    bool is_host;
    char *head; /* head and slots, mapped */
    size_t head_size;
    struct remote_gauge *gauges;
    struct remote_slot_word *words;
    char *answers;
    struct remote_ring_memory *seat_rings, *p_rings;
    struct remote_ring_out *outs; /* to seats, or to Ps */
    struct remote_ring_in *ins;   /* the host's: of seats */
    int *bells;                   /* of each P */

    /* The proxy's: coroutines that wait for room in any ring (port.c). */
    pthread_mutex_t waiters_lock;
    struct list waiters;
    _Atomic bool hung_up;

    /* The host's, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t released;
    uint8_t *slot_uses; /* enum slot_use */
    uint32_t next_slot; /* where the search begins */
};

/* 0 or -errno. */
MUST_CHECK int remote_slots_init(struct remote_shm *shm);
void remote_slots_fini(struct remote_shm *shm);
