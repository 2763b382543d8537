/* ticks: see the header. The rate is measured: what the kernel or cpuid say of it is not there on every
 * machine. Two milliseconds against a clock that is read in 50 ns give it to one in ten thousand. */
#include "base/ticks.h"

#include <pthread.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct ticks_rate ticks_rate = {.ns_per_tick_32 = 1ull << 32};

static bool processor_has_clock(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1); /* invariant TSC */
#elif defined(__aarch64__)
    return true;
#else
    return false;
#endif
}

static void init_once(void) {
    if (!processor_has_clock())
        return;
    ticks_rate.of_processor = true;
    int64_t begin_ns = clock_mono_ns(), end_ns;
    uint64_t begin = ticks_now(), end;
    do {
        end_ns = clock_mono_ns();
        end = ticks_now();
    } while (end_ns - begin_ns < 2 * NS_PER_MS);
    /* One that stands still would make every duration endless. */
    if (end > begin)
        ticks_rate.ns_per_tick_32 =
            (uint64_t)(((unsigned __int128)(uint64_t)(end_ns - begin_ns) << 32) / (end - begin));
    else
        ticks_rate.of_processor = false;
}

void ticks_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}
