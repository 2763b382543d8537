/* shm: one file for all that a proxy and a host process share.
 *
 * The file's size is sealed, so the host cannot cut off what the proxy has mapped (a SIGBUS); and where the kernel
 * knows of it, nothing in it can be executed. What a host can do to it is to touch all pages, which costs the memory of
 * a layout in full, and to punch holes, which read as zeros: not worse than writing them.
 *
 * Rejected  A file per ring: a descriptor each, and more than one message can carry. One mapping of all: rings are
 *           mapped twice in a row (ring_memory.h), so each needs addresses of its own anyway. */
#include "ext/remote/shm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ext/remote/ring_sleep.h"
#include "ext/remote/shm_internal.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static const uint64_t head_magic = 0x53687243696c5332ULL; /* of this layout */

/* What the file begins with, and what is sent with the descriptors. */
struct shm_head {
    uint64_t magic;
    uint32_t words_size, slot_size; /* as this build has them */
    struct remote_shm_layout layout;
    uint64_t file_size;
};

/* ---- layout ---- */

static uint64_t to_page(uint64_t size) {
    return (size + REMOTE_PAGE - 1) / REMOTE_PAGE * REMOTE_PAGE;
}

static uint64_t words_offset(void) {
    return REMOTE_PAGE + to_page(REMOTE_GAUGES_MAX * sizeof(struct remote_gauge));
}

static uint64_t answers_offset(const struct remote_shm_layout *layout) {
    return words_offset() + to_page(layout->slot_count * sizeof(struct remote_slot_word));
}

static uint64_t seats_offset(const struct remote_shm_layout *layout) {
    return answers_offset(layout) + (uint64_t)layout->slot_count * REMOTE_SLOT_SIZE;
}

static uint64_t seat_ring_offset(const struct remote_shm_layout *layout, uint32_t seat) {
    return seats_offset(layout) + seat * remote_ring_span(layout->seat_ring_size);
}

static uint64_t p_ring_offset(const struct remote_shm_layout *layout, uint32_t p) {
    return seat_ring_offset(layout, layout->seat_count) + p * remote_ring_span(layout->p_ring_size);
}

/* Of the Ps, then of the seats. */
static uint32_t bell_count(const struct remote_shm_layout *layout) {
    return layout->p_count + (layout->seats_have_bells ? layout->seat_count : 0);
}

static bool layout_is_valid(const struct remote_shm_layout *layout) {
    return layout->seat_count >= 1 && layout->seat_count <= REMOTE_SEATS_MAX &&
           layout->p_count >= 1 && layout->p_count <= REMOTE_PS_MAX && layout->slot_count >= 1 &&
           layout->slot_count <= REMOTE_SLOTS_MAX && layout->seats_have_bells <= 1 &&
           1 + bell_count(layout) <= REMOTE_SHM_FDS_MAX &&
           remote_ring_size_is_valid(layout->seat_ring_size) &&
           remote_ring_size_is_valid(layout->p_ring_size);
}

static_assert(sizeof(struct shm_head) ==
                  2 * sizeof(uint64_t) + 2 * sizeof(uint32_t) + sizeof(struct remote_shm_layout),
              "heads are compared as bytes: no padding");

static struct shm_head head_of(const struct remote_shm_layout *layout) {
    return (struct shm_head){.magic = head_magic,
                             .words_size = sizeof(struct remote_ring_words),
                             .slot_size = REMOTE_SLOT_SIZE,
                             .layout = *layout,
                             .file_size = p_ring_offset(layout, layout->p_count)};
}

/* ---- mapping ---- */

static void unmap_rings(struct remote_ring_memory *rings, uint32_t count) {
    for (uint32_t i = 0; rings && i < count; i++)
        if (rings[i].words)
            remote_ring_unmap(&rings[i]);
    free(rings);
}

void remote_shm_free(struct remote_shm *shm) {
    if (!shm)
        return;
    uint32_t out_count = shm->is_host ? shm->layout.p_count : shm->layout.seat_count;
    for (uint32_t i = 0; shm->outs && i < out_count; i++)
        remote_ring_out_fini(&shm->outs[i]);
    for (uint32_t i = 0; shm->bells && i < bell_count(&shm->layout); i++)
        if (shm->bells[i] >= 0)
            (void)close(shm->bells[i]);
    unmap_rings(shm->seat_rings, shm->layout.seat_count);
    unmap_rings(shm->p_rings, shm->layout.p_count);
    if (shm->head)
        (void)munmap(shm->head, shm->head_size);
    if (shm->fd >= 0)
        (void)close(shm->fd);
    (void)pthread_mutex_destroy(&shm->waiters_lock);
    remote_slots_fini(shm);
    free(shm->outs);
    free(shm->ins);
    free(shm->bells);
    free(shm);
}

/* What needs no descriptor. NULL when memory is short. */
static struct remote_shm *alloc(const struct remote_shm_layout *layout, bool is_host) {
    struct remote_shm *shm = calloc(1, sizeof *shm);
    if (!shm)
        return NULL;
    shm->layout = *layout;
    shm->is_host = is_host;
    shm->fd = -1;
    list_init(&shm->waiters);
    (void)pthread_mutex_init(&shm->waiters_lock, NULL);
    shm->seat_rings = calloc(layout->seat_count, sizeof *shm->seat_rings);
    shm->p_rings = calloc(layout->p_count, sizeof *shm->p_rings);
    shm->bells = malloc(bell_count(layout) * sizeof *shm->bells);
    for (uint32_t i = 0; shm->bells && i < bell_count(layout); i++)
        shm->bells[i] = -1;
    if (!shm->seat_rings || !shm->p_rings || !shm->bells ||
        (is_host && remote_slots_init(shm) < 0)) {
        remote_shm_free(shm);
        return NULL;
    }
    return shm;
}

static int map_all(struct remote_shm *shm) {
    const struct remote_shm_layout *layout = &shm->layout;
    size_t size = seats_offset(layout);
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, shm->fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    shm->head = at;
    shm->head_size = size;
    shm->gauges = (struct remote_gauge *)(void *)(at + REMOTE_PAGE);
    shm->words = (struct remote_slot_word *)(void *)(at + words_offset());
    shm->answers = at + answers_offset(layout);
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < layout->seat_count; i++)
        err = remote_ring_map(shm->fd, (off_t)seat_ring_offset(layout, i), layout->seat_ring_size,
                              &shm->seat_rings[i]);
    for (uint32_t i = 0; err == 0 && i < layout->p_count; i++)
        err = remote_ring_map(shm->fd, (off_t)p_ring_offset(layout, i), layout->p_ring_size,
                              &shm->p_rings[i]);
    return err;
}

/* A P's parked coroutines are told of room in a seat's ring: `who` is the P and 1. */
static void tell_p(void *arg, uint32_t who) {
    struct remote_shm *shm = arg;
    if (who <= shm->layout.p_count)
        remote_ring_out_nudge(&shm->outs[who - 1]);
}

static int make_ends(struct remote_shm *shm) {
    const struct remote_shm_layout *layout = &shm->layout;
    uint32_t out_count = shm->is_host ? layout->p_count : layout->seat_count;
    struct remote_ring_out *outs = calloc(out_count, sizeof *outs);
    if (!outs)
        return -ENOMEM;
    for (uint32_t i = 0; i < out_count; i++)
        if (shm->is_host)
            remote_ring_out_init(&outs[i], &shm->p_rings[i], shm->bells[i]);
        else
            remote_ring_out_init(&outs[i], &shm->seat_rings[i],
                                 layout->seats_have_bells ? remote_shm_seat_bell(shm, i)
                                                          : REMOTE_BELL_NONE);
    shm->outs = outs;
    if (!shm->is_host)
        return 0;
    shm->ins = calloc(layout->seat_count, sizeof *shm->ins);
    if (!shm->ins)
        return -ENOMEM;
    for (uint32_t i = 0; i < layout->seat_count; i++) {
        remote_ring_in_init(&shm->ins[i], &shm->seat_rings[i]);
        shm->ins[i].tell = tell_p;
        shm->ins[i].tell_arg = shm;
    }
    return 0;
}

/* ---- the proxy's: making and sending ---- */

static int open_file(uint64_t size) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("sluice-ext", flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("sluice-ext", flags);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int err = -errno;
        (void)close(fd);
        return err;
    }
    return fd;
}

static int open_bells(struct remote_shm *shm) {
    for (uint32_t i = 0; i < bell_count(&shm->layout); i++) {
        shm->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (shm->bells[i] < 0)
            return -errno;
    }
    return 0;
}

int remote_shm_new(const struct remote_shm_layout *layout, struct remote_shm **out) {
    struct remote_shm_layout full = *layout;
    if (full.seat_ring_size == 0)
        full.seat_ring_size = REMOTE_RING_SIZE;
    if (full.p_ring_size == 0)
        full.p_ring_size = REMOTE_RING_SIZE;
    ASSERT(layout_is_valid(&full));
    struct remote_shm *shm = alloc(&full, false);
    if (!shm)
        return -ENOMEM;
    struct shm_head head = head_of(&full);
    int err = open_file(head.file_size);
    if (err >= 0) {
        shm->fd = err;
        err = open_bells(shm);
    }
    if (err == 0)
        err = map_all(shm);
    if (err == 0)
        err = make_ends(shm);
    if (err < 0) {
        remote_shm_free(shm);
        return err;
    }
    memcpy(shm->head, &head, sizeof head);
    *out = shm;
    return 0;
}

unsigned remote_shm_fds(const struct remote_shm *shm, int fds[REMOTE_SHM_FDS_MAX]) {
    fds[0] = shm->fd;
    memcpy(fds + 1, shm->bells, bell_count(&shm->layout) * sizeof *fds);
    return 1 + bell_count(&shm->layout);
}

/* ---- the host's ---- */

/* fds: the file and the bells, ours from here on. */
static int open_taken(const struct shm_head *said, const int *fds, uint32_t fd_count,
                      struct remote_shm **out) {
    struct remote_shm *shm = NULL;
    struct stat stat;
    int err = -EPROTO;
    uint32_t kept = 0;
    if (!layout_is_valid(&said->layout) || fd_count != 1 + bell_count(&said->layout))
        goto close_rest;
    struct shm_head expected = head_of(&said->layout);
    if (memcmp(&expected, said, sizeof expected) != 0)
        goto close_rest;
    if (fstat(fds[0], &stat) < 0 || (uint64_t)stat.st_size != expected.file_size)
        goto close_rest;
    err = -ENOMEM;
    shm = alloc(&said->layout, true);
    if (!shm)
        goto close_rest;
    shm->fd = fds[0];
    memcpy(shm->bells, fds + 1, bell_count(&said->layout) * sizeof *shm->bells);
    kept = fd_count;
    err = map_all(shm);
    if (err == 0 && memcmp(shm->head, &expected, sizeof expected) != 0)
        err = -EPROTO;
    if (err == 0)
        err = make_ends(shm);
    if (err == 0) {
        *out = shm;
        return 0;
    }
    remote_shm_free(shm);
close_rest:
    for (uint32_t i = kept; i < fd_count; i++)
        (void)close(fds[i]);
    return err;
}

int remote_shm_open(int *fds, unsigned count, struct remote_shm **out) {
    int taken[REMOTE_SHM_FDS_MAX];
    struct shm_head head;
    if (count == 0 || count > REMOTE_SHM_FDS_MAX)
        return -EPROTO;
    for (unsigned i = 0; i < count; i++) {
        taken[i] = fds[i];
        fds[i] = -1;
    }
    ssize_t got = pread(taken[0], &head, sizeof head, 0);
    if (got != sizeof head)
        memset(&head, 0, sizeof head); /* which is refused */
    return open_taken(&head, taken, count, out);
}

/* ---- what is in it ---- */

const struct remote_shm_layout *remote_shm_layout(const struct remote_shm *shm) {
    return &shm->layout;
}

uint64_t remote_shm_resident_bytes(const struct remote_shm *shm) {
    struct stat stat;
    return fstat(shm->fd, &stat) < 0 ? 0 : (uint64_t)stat.st_blocks * 512;
}

struct remote_ring_out *remote_shm_seat_out(struct remote_shm *shm, uint32_t seat) {
    ASSERT(!shm->is_host);
    ASSERT(seat < shm->layout.seat_count);
    return &shm->outs[seat];
}

const struct remote_ring_memory *remote_shm_p_ring(const struct remote_shm *shm, uint32_t p) {
    ASSERT(p < shm->layout.p_count);
    return &shm->p_rings[p];
}

int remote_shm_seat_bell(const struct remote_shm *shm, uint32_t seat) {
    ASSERT(seat < shm->layout.seat_count);
    ASSERT(shm->layout.seats_have_bells);
    return shm->bells[shm->layout.p_count + seat];
}

int remote_shm_p_bell(const struct remote_shm *shm, uint32_t p) {
    ASSERT(p < shm->layout.p_count);
    return shm->bells[p];
}

struct remote_ring_in *remote_shm_seat_in(struct remote_shm *shm, uint32_t seat) {
    ASSERT(shm->is_host);
    ASSERT(seat < shm->layout.seat_count);
    return &shm->ins[seat];
}

struct remote_ring_out *remote_shm_p_out(struct remote_shm *shm, uint32_t p) {
    ASSERT(shm->is_host);
    ASSERT(p < shm->layout.p_count);
    return &shm->outs[p];
}

/* ---- gauges ---- */

/* Its bytes may change while we look: then it has another name, for once. */
static bool is_named(const struct remote_gauge *gauge, struct span name) {
    /* acquire: the name, which is written before */
    return atomic_load_explicit(&gauge->name_len, memory_order_acquire) == name.len &&
           memcmp(gauge->name, name.ptr, name.len) == 0;
}

int64_t remote_shm_gauge_read(const struct remote_shm *shm, struct span name) {
    if (name.len == 0 || name.len > REMOTE_GAUGE_NAME_MAX)
        return 0;
    for (unsigned i = 0; i < REMOTE_GAUGES_MAX; i++)
        if (is_named(&shm->gauges[i], name))
            return atomic_load_explicit(&shm->gauges[i].value, memory_order_relaxed);
    return 0;
}

_Atomic int64_t *remote_shm_gauge(struct remote_shm *shm, struct span name) {
    ASSERT(shm->is_host);
    if (name.len == 0 || name.len > REMOTE_GAUGE_NAME_MAX)
        return NULL;
    for (unsigned i = 0; i < REMOTE_GAUGES_MAX; i++) {
        struct remote_gauge *gauge = &shm->gauges[i];
        if (is_named(gauge, name))
            return &gauge->value;
        if (atomic_load_explicit(&gauge->name_len, memory_order_relaxed) != 0)
            continue;
        memcpy(gauge->name, name.ptr, name.len);
        atomic_store_explicit(&gauge->name_len, (uint32_t)name.len, memory_order_release);
        return &gauge->value;
    }
    return NULL;
}
