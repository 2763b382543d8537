/* shm: the memory that the proxy shares with one host process, and the descriptors that go with it.
 *
 *     │ head │ gauges │ answer slots: words │ their bytes ... │ rings of seats ... │ rings of Ps ... │
 *                                                      proxy ──► seat       host ──► P
 *
 * The proxy makes it (a memfd that cannot change its size) and sends it to the host, with an eventfd for each P (its
 * bell), beside what else a host is told first (ext_host_wire.h); the host maps the same. Pages that nobody has touched
 * take no memory.
 *
 * Seats     Each is a thread of the host that reads its ring, remote_shm_seat_in, or a P of the host with a bell, which
 *           reads it by a struct remote_port; the proxy writes with remote_shm_seat_out.
 * Ps        Each reads its ring by a struct remote_port (port.h); the host writes with remote_shm_p_out. Host threads
 *           may wait for room there; Ps never wait but park.
 * Answers   A host thread that asks has a slot: claims it, asks by a record that names it, waits, reads, releases. The
 *           proxy writes the answer straight into the slot and reads nothing there.
 * Gauges    What the host holds, by name; it counts them where the proxy looks when somebody asks.
 * Trust     The proxy believes nothing that is in it, its own head included: sizes are in struct remote_shm. The host
 *           checks the head.
 * Ownership remote_shm_new and remote_shm_open give one that is owned; the rings' ends in it are its own.
 * Threads   Any, but for remote_shm_free: when nobody uses it any more. */
#pragma once
#include "ext/remote/ring.h"

enum {
    REMOTE_SLOT_SIZE = 1 << 16,
    REMOTE_SEATS_MAX = 4096, /* more than there are threads in a sensible process */
    REMOTE_PS_MAX = 128, /* as RT_P_MAX; that many bells fit into one message (SCM_MAX_FD: 253) */
    REMOTE_SLOTS_MAX = 4096,
    REMOTE_GAUGES_MAX = 32,
    REMOTE_GAUGE_NAME_MAX = 112,
    REMOTE_SHM_FDS_MAX = 253, /* the file and bells: as many as one message carries (SCM_MAX_FD) */
};

struct remote_shm_layout {
    uint32_t seat_count, p_count;
    uint32_t slot_count;                  /* host threads that may ask at a time */
    uint32_t seat_ring_size, p_ring_size; /* 0 in remote_shm_new: REMOTE_RING_SIZE */
    uint32_t
        seats_have_bells; /* 1: they are Ps of the host (remote_port_open_seat); 0: threads, which sleep on their rings */
};

struct remote_shm;

/* The proxy's. 0 or -errno; the layout is within its limits, each count at least 1. */
MUST_CHECK int remote_shm_new(const struct remote_shm_layout *layout, struct remote_shm **out);
/* What the host is to get copies of: how many. Borrowed. */
unsigned remote_shm_fds(const struct remote_shm *shm, int fds[REMOTE_SHM_FDS_MAX]);
/* The host's, from those copies, which are taken whatever comes of it; -1 is in their place then. 0; -EPROTO: they are not
 * that, or of another build; -errno. */
MUST_CHECK int remote_shm_open(int *fds, unsigned count, struct remote_shm **out);
/* NULL is none. */
void remote_shm_free(struct remote_shm *shm);

const struct remote_shm_layout *remote_shm_layout(const struct remote_shm *shm);
/* Bytes of the file that are in memory now, whoever touched them. */
uint64_t remote_shm_resident_bytes(const struct remote_shm *shm);

/* ---- the proxy's ---- */

/* To a seat. Wake it by remote_port_commit, or remote_ring_out_wake off the Ps. */
struct remote_ring_out *remote_shm_seat_out(struct remote_shm *shm, uint32_t seat);
/* Of a P. */
const struct remote_ring_memory *remote_shm_p_ring(const struct remote_shm *shm, uint32_t p);
int remote_shm_p_bell(const struct remote_shm *shm, uint32_t p); /* borrowed */

/* Room for an answer of REMOTE_SLOT_SIZE bytes; NULL: there is no such slot. What is there is not to be read. */
char *remote_shm_answer_room(struct remote_shm *shm, uint32_t slot);
/* The first len bytes of the room are the answer; wakes who sleeps on it. The slot is one that has room. */
void remote_shm_answer(struct remote_shm *shm, uint32_t slot, size_t len);

/* What the host says that it has of that name; 0: nothing. Any thread. */
int64_t remote_shm_gauge_read(const struct remote_shm *shm, struct span name);

/* ---- the host's ---- */

/* The gauge of that name, from now on; there are REMOTE_GAUGES_MAX of REMOTE_GAUGE_NAME_MAX bytes, or it is NULL. Its first
 * thread; whoever counts, any. */
_Atomic int64_t *remote_shm_gauge(struct remote_shm *shm, struct span name);

/* Of a seat; it tells Ps of room by itself. Its thread alone uses it. */
struct remote_ring_in *remote_shm_seat_in(struct remote_shm *shm, uint32_t seat);
int remote_shm_seat_bell(const struct remote_shm *shm, uint32_t seat); /* borrowed */
/* To a P. */
struct remote_ring_out *remote_shm_p_out(struct remote_shm *shm, uint32_t p);

/* A slot for a question, leased until release; sleeps while all are taken. 0, -ETIMEDOUT. */
MUST_CHECK int remote_shm_slot_claim(struct remote_shm *shm, int64_t deadline_ns, uint32_t *slot);
/* After the question was committed (and the P woken): 0 with the answer, borrowed until the release; -ETIMEDOUT: then
 * release it too. */
MUST_CHECK int remote_shm_slot_wait(struct remote_shm *shm, uint32_t slot, int64_t deadline_ns,
                                    struct span *answer);
/* Also of a question that was never sent: `asked` is false then. One whose answer has not come is not given to
 * anybody else before it has. */
void remote_shm_slot_release(struct remote_shm *shm, uint32_t slot, bool asked);
