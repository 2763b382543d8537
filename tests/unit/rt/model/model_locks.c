/* locks: mutex, semaphore, rwlock, cond and waitgroup, with their deadlines at every moment. Who holds a
 * lock has it alone and sees what the one before did; nothing that was given is lost with a waiter that
 * gives up; nobody waits for what has happened; a waitgroup may go as soon as its waiter returns. */
#include <errno.h>
#include <string.h>

#include "rt/cond.h"
#include "rt/queues.h"
#include "rt/rwlock.h"
#include "rt/sema.h"
#include "rt/waitgroup.h"
#include "stage.h"

static enum stage_role roles[MODEL_THREADS_MAX];
static bool with_deadline;
static struct mutex mutex;
static struct sema sema;
static struct rwlock rw;
static struct cond cond;
static struct waitgroup wg;
static struct model_cell guarded;       /* what the lock guards */
static unsigned got[MODEL_THREADS_MAX]; /* 1: it had the lock, 2: it gave up */
static bool condition, freed;
static int64_t now_ns;
static unsigned jumps_left; /* of the clock, over the time after which a mutex is handed over */

/* ---- What they ask of the runtime ---- */

int64_t clock_mono_ns(void) {
    if (jumps_left > 0 && model_choose(2)) {
        jumps_left--;
        now_ns += 2 * MUTEX_STARVING_NS;
    }
    return now_ns;
}

uint64_t queue_depth(struct p *p) {
    return 0;
}

static int64_t deadline(void) {
    return with_deadline ? stage_deadline() : RT_FOREVER;
}

/* Notes how a lock call ended; true when it is held. */
static bool has_it(int err) {
    MODEL_CHECK(err == 0 || (with_deadline && err == -ETIMEDOUT));
    got[model_thread()] = err == 0 ? 1 : 2;
    return err == 0;
}

static void write_guarded(void) {
    model_cell_write(&guarded, model_cell_read(&guarded) + 1);
}

/* ---- The threads ---- */

static void locks_mutex(void) {
    if (has_it(mutex_lock(&mutex, deadline()))) {
        write_guarded();
        mutex_unlock(&mutex);
    }
    stage_end();
}

static void acquires_sema(void) {
    if (has_it(sema_acquire(&sema, "sema", deadline()))) {
        write_guarded();
        sema_release(&sema, 1);
    }
    stage_end();
}

/* From no P: a permit that was there already, so two may hold one; no cell for this one. */
static void takes_permit(void) {
    has_it(sema_acquire(&sema, "permit", deadline()));
    stage_end();
}

static void stranger_releases_two(void) {
    sema_release(&sema, 2);
}

static void writes(void) {
    if (has_it(rwlock_write_lock(&rw, deadline()))) {
        write_guarded();
        rwlock_write_unlock(&rw);
    }
    stage_end();
}

static void reads(void) {
    if (has_it(rwlock_read_lock(&rw, deadline()))) {
        (void)model_cell_read(&guarded);
        rwlock_read_unlock(&rw);
    }
    stage_end();
}

static void waits_for_condition(void) {
    MODEL_CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    int err = 0;
    while (!condition && err == 0)
        err = cond_wait(&cond, &mutex, deadline());
    has_it(condition ? 0 : err);
    write_guarded(); /* it has the mutex whatever came */
    mutex_unlock(&mutex);
    stage_end();
}

static void makes_condition(void) {
    MODEL_CHECK(mutex_lock(&mutex, RT_FOREVER) == 0);
    condition = true;
    write_guarded();
    mutex_unlock(&mutex);
    cond_signal(&cond);
    stage_end();
}

/* Once it returns the group is gone: whoever still looks at it fails the story. */
static void waits_for_group(void) {
    if (has_it(waitgroup_wait(&wg, deadline()))) {
        MODEL_CHECK(model_cell_read(&guarded) == 1);
        freed = true;
    }
    stage_end();
}

static void is_done_after_work(void) {
    write_guarded();
    waitgroup_done(&wg);
}

static void is_done(void) {
    waitgroup_done(&wg);
}

/* ---- The stories ---- */

static void setup(void) {
    stage_setup(roles);
    rt_sched.p_count = 1; /* nobody spins for a mutex: that is only more of the same steps */
    memset(&mutex, 0, sizeof mutex);
    cond_init(&cond);
    rwlock_init(&rw);
    waitgroup_init(&wg);
    sema_init(&sema, 1);
    guarded.value = 0;
    memset(got, 0, sizeof got);
    condition = freed = false;
    now_ns = 1;
    jumps_left = 1;
}

static void setup_no_permit(void) {
    setup();
    sema_init(&sema, 0);
}

static void setup_group_of_two(void) {
    setup();
    waitgroup_add(&wg, 2);
}

static unsigned count_of(unsigned how) {
    unsigned count = 0;
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++)
        count += got[i] == how;
    return count;
}

static void check_mutex(void) {
    stage_check_all_ended();
    MODEL_CHECK(model_cell_read(&guarded) == count_of(1));
    MODEL_CHECK(atomic_load(&mutex.state) == 0);
    MODEL_CHECK(waiters_is_empty(&mutex.waiters));
}

static void check_sema(void) {
    stage_check_all_ended();
    MODEL_CHECK(model_cell_read(&guarded) == count_of(1));
    MODEL_CHECK(atomic_load(&sema.count) == 1);
}

static void check_permits(void) {
    stage_check_all_ended();
    MODEL_CHECK(atomic_load(&sema.count) == 2 - (int64_t)count_of(1));
}

static void check_rwlock(void) {
    stage_check_all_ended();
    MODEL_CHECK(atomic_load(&rw.state) == 0);
}

static void check_cond(void) {
    stage_check_all_ended();
    MODEL_CHECK(atomic_load(&mutex.state) == 0);
    MODEL_CHECK(waiters_is_empty(&cond.waiters));
}

static void check_group(void) {
    stage_check_all_ended();
    MODEL_CHECK(freed || with_deadline);
}

int main(void) {
    static const struct {
        const char *name;
        void (*setup)(void);
        void (*threads[3])(void);
        void (*check)(void);
        bool strangers; /* but for thread 0 they have no P */
    } rows[] = {
        {"two lock a mutex", setup, {locks_mutex, locks_mutex}, check_mutex, false},
        {"three lock a mutex", setup, {locks_mutex, locks_mutex, locks_mutex}, check_mutex, false},
        {"two acquire a semaphore", setup, {acquires_sema, acquires_sema}, check_sema, false},
        {"three acquire a semaphore",
         setup,
         {acquires_sema, acquires_sema, acquires_sema},
         check_sema,
         false},
        {"permits from a stranger",
         setup_no_permit,
         {takes_permit, stranger_releases_two},
         check_permits,
         true},
        {"two wait for a stranger's permits",
         setup_no_permit,
         {takes_permit, takes_permit, stranger_releases_two},
         check_permits,
         false},
        {"two write", setup, {writes, writes}, check_rwlock, false},
        {"a reader and a writer", setup, {reads, writes}, check_rwlock, false},
        {"two readers and a writer", setup, {reads, writes, reads}, check_rwlock, false},
        {"two writers and a reader", setup, {writes, reads, writes}, check_rwlock, false},
        {"a condition", setup, {waits_for_condition, makes_condition}, check_cond, false},
        {"a group of two",
         setup_group_of_two,
         {waits_for_group, is_done_after_work, is_done},
         check_group,
         true},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0] * 4; i++) {
        enum stage_role role = i & 1 ? STAGE_PINNED : STAGE_STEALABLE;
        with_deadline = i & 2;
        struct model_story story = {.name = rows[i / 4].name,
                                    .setup = rows[i / 4].setup,
                                    .check = rows[i / 4].check,
                                    .preemptions = 2,
                                    .stale_reads = 1};
        while (story.thread_count < 3 && rows[i / 4].threads[story.thread_count]) {
            unsigned n = story.thread_count++;
            story.threads[n] = rows[i / 4].threads[n];
            roles[n] = n > 0 && rows[i / 4].strangers ? STAGE_FOREIGN : role;
        }
        model_explore(&story);
    }
    return 0;
}
