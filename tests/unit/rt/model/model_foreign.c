/* foreign, sysmon: a P is one M's at a time, whatever foreign_call and the retaking of Ps do at once;
 * and sysmon does not sleep while it is needed.
 *
 * foreign.c and sysmon.c as they are. The looks of sysmon are taken one by one; the system call that makes
 * a barrier on all cores is the explorer's. A cell of plain data stands for what belongs to the P: two
 * threads that both think that it is theirs fail on it, and so does a hand-over that orders too little. */
#include <string.h>
#include <sys/syscall.h>

#include "explorer.h"

static long model_syscall(long number);
#define syscall(number, ...) model_syscall(number)
#include "rt/sysmon.c" /* its looks are static. NOLINT(bugprone-suspicious-include) */

#include "rt/foreign.h"
#include "rt/g_switch.h"
#include "rt/poll_ring.h"

struct sched rt_sched;
struct log_component log_rt;

static struct p p;
static struct m ms[3];
static struct g gs[3];
static struct m *current_m[MODEL_THREADS_MAX];
static struct model_cell of_the_p;
static bool handed_over, passed_on, never;
static bool has_no_spare;
static bool strong;

/* ---- The runtime around them ---- */

static long model_syscall(long number) {
    if (number == SYS_membarrier)
        model_barrier();
    return 0;
}

struct m *m_self(void) {
    return model_thread() < MODEL_THREADS_MAX ? current_m[model_thread()] : NULL;
}

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

void g_call_on_g0(struct m *m, struct g *g, rt_fn fn, void *arg) {
    (void)m;
    (void)g;
    fn(arg);
}

/* Of a coroutine that came back without its P. */
void g_switch_out(struct m *m, struct g *g) {
    MODEL_CHECK(m->request == M_RETAKEN);
    foreign_retaken(m, g);
}

void g_resume(struct g *g) {
    MODEL_CHECK(g == &gs[0]);
    model_wake(&passed_on);
}

struct m *m_get_spare(void) {
    return has_no_spare ? NULL : &ms[1];
}

void m_put_spare(struct m *m) {
    (void)m;
}

/* The stories take sysmon's looks themselves. */
int thread_start(void *(*fn)(void *arg), void *arg) {
    (void)fn;
    (void)arg;
    return 0;
}

void m_hand_p(struct m *m, struct p *handed) {
    MODEL_CHECK(m == &ms[1]);
    MODEL_CHECK(handed == &p);
    has_no_spare = true;
    model_wake(&handed_over);
}

bool stall_look(struct p *looked_at, int64_t now_ns, bool fine) {
    return false;
}

int64_t stall_cpu_ns(struct m *m) {
    return 0;
}

bool stall_is_blocked(struct m *m, int64_t cpu_ns) {
    return true;
}

void stall_look_at_quick_calls(void) {}

void stall_forget(int64_t now_ns) {}

void profile_thread_begin(struct profile_thread *self) {}

void profile_thread_end(struct profile_thread *self) {}

/* The P has no ring. */
void poll_ring_before_call(struct p *of) {
    MODEL_CHECK(false);
}

void round_before_call(struct m *m, struct g *g) {}

void poll_ring_flush(struct p *of) {
    MODEL_CHECK(false);
}

/* No P is idle: the coroutine goes to the queue of all (g_resume). */
int idle_claim(unsigned preferred) {
    return -1;
}

void inbox_post(struct p *to, struct rt_post *post) {
    MODEL_CHECK(false);
}

int64_t clock_mono_ns(void) {
    return 0;
}

/* ---- What the threads do ---- */

static void use_the_p(struct m *m) {
    MODEL_CHECK(m->p == &p);
    model_cell_write(&of_the_p, model_cell_read(&of_the_p) + 1);
}

static void returns(void *arg) {}

static void blocks(void *arg) {
    model_wait(&never);
}

/* Two calls in a row: the second must not be taken for the first. */
static void m0_calls_twice(void) {
    struct m *m = &ms[0];
    for (unsigned i = 0; i < 2; i++) {
        use_the_p(m);
        foreign_call(returns, NULL);
        if (!m->p)
            return; /* retaken: foreign_retaken has passed the coroutine on */
    }
    use_the_p(m);
}

static void m0_calls_for_ever(void) {
    foreign_call(blocks, NULL);
}

static void m0_calls_quickly_for_ever(void) {
    foreign_call_quick("site", blocks, NULL);
}

/* The spare that may get the P, and makes a call of its own. */
static void m1_takes_over(void) {
    struct m *m = &ms[1];
    model_wait(&handed_over);
    m->p = &p;
    atomic_store_explicit(&p.owner, (uintptr_t)m, memory_order_release); /* as m_main does */
    use_the_p(m);
    foreign_call(returns, NULL);
    MODEL_CHECK(m->p == &p); /* there is no other spare */
    use_the_p(m);
}

static void sysmon_looks_thrice(void) {
    struct activity activity = {0};
    for (unsigned i = 0; i < 3; i++)
        look_at(&p, true, 0, &activity);
}

static void m0_awakes(void) {
    atomic_store_explicit(&p.idle.sleeping, 0, memory_order_relaxed);
    sysmon_p_awoke(&p);
}

/* The two ways up, as sysmon_main goes them: wary, and calm. */
static void sysmon_slows_down(void) {
    slow_down(true, fine_rest_ns + 1, 0);
}

static void sysmon_goes_to_sleep(void) {
    slow_down(false, 0, idle_ns + 1);
}

/* ---- The stories ---- */

static uint32_t first_level;

static void setup(void) {
    memset(&p, 0, sizeof p);
    memset(ms, 0, sizeof ms);
    memset(gs, 0, sizeof gs);
    memset(seen, 0, sizeof seen);
    of_the_p.value = 0;
    handed_over = passed_on = never = has_no_spare = false;
    rt_sched.p_count = 1;
    rt_sched.ps[0] = &p;
    atomic_store_explicit(&sysmon_state, first_level | (strong ? SYSMON_STRONG : 0),
                          memory_order_relaxed);
    atomic_store_explicit(&p.owner, (uintptr_t)&ms[0], memory_order_relaxed);
    atomic_store_explicit(&p.idle.sleeping, first_level == SYSMON_COARSE, memory_order_relaxed);
    ms[0].p = &p;
    ms[0].current = &gs[0];
    ms[1].current = &gs[1];
    current_m[0] = &ms[0];
    current_m[1] = NULL; /* sysmon's thread */
    current_m[2] = &ms[1];
}

/* Whoever has it by P.owner is the one that used it last, and nobody's coroutine is lost. */
static void check_owner(void) {
    uintptr_t owner = atomic_load(&p.owner);
    if (handed_over) {
        MODEL_CHECK(owner == (uintptr_t)&ms[1]);
        MODEL_CHECK(passed_on);
        MODEL_CHECK(!ms[0].p);
    } else {
        MODEL_CHECK(owner == (uintptr_t)&ms[0]);
        MODEL_CHECK(ms[0].p == &p);
        MODEL_CHECK(model_is_waiting(2));
    }
}

static void check_fine(void) {
    MODEL_CHECK(level() == SYSMON_FINE);
}

static void check_not_asleep(void) {
    MODEL_CHECK(level() != SYSMON_ASLEEP);
}

int main(void) {
    static const struct {
        const char *name;
        uint32_t level;
        void (*threads[3])(void);
        void (*check)(void);
        unsigned preemptions, stale_reads;
    } rows[] = {
        {"two calls, retaking, a spare with a call of its own",
         SYSMON_FINE,
         {m0_calls_twice, sysmon_looks_thrice, m1_takes_over},
         check_owner,
         2,
         2},
        {"sysmon slows down while a call begins",
         SYSMON_FINE,
         {m0_calls_for_ever, sysmon_slows_down},
         check_fine,
         3,
         3},
        {"sysmon slows down while a quick call begins",
         SYSMON_FINE,
         {m0_calls_quickly_for_ever, sysmon_slows_down},
         check_fine,
         3,
         3},
        {"sysmon goes to sleep while a P awakes",
         SYSMON_COARSE,
         {m0_awakes, sysmon_goes_to_sleep},
         check_not_asleep,
         3,
         3},
        {"sysmon goes to sleep while a call begins",
         SYSMON_COARSE,
         {m0_calls_for_ever, sysmon_goes_to_sleep},
         check_fine,
         3,
         3},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0] * 2; i++) {
        strong = i % 2;
        first_level = rows[i / 2].level;
        struct model_story story = {.name = rows[i / 2].name,
                                    .setup = setup,
                                    .check = rows[i / 2].check,
                                    .preemptions = rows[i / 2].preemptions,
                                    .stale_reads = rows[i / 2].stale_reads};
        while (story.thread_count < 3 && rows[i / 2].threads[story.thread_count]) {
            story.threads[story.thread_count] = rows[i / 2].threads[story.thread_count];
            story.thread_count++;
        }
        model_explore(&story);
    }
    return 0;
}
