/* record: stack and labels make the site, site and object the sample.
 *
 * Somebody is inside malloc here, on any stack, perhaps a coroutine's: nothing parks, and what is
 * allocated on the way (a set of labels) is not sampled, for which the thread is marked busy. */
#include "heap/record.h"

#include <errno.h>

#include "heap/heap_profile.h"
#include "heap/sampler.h"
#include "heap/unwind.h"
#include "rt/labels.h"

static struct sample *make(const void *address, const struct site_count *object,
                           const void *caller) {
    uintptr_t pcs[HEAP_STACK_MAX];
    unsigned depth = unwind_after(caller, pcs, HEAP_STACK_MAX);
    struct site *site = sites_find(pcs, depth, labels_snapshot());
    return site ? samples_add(site, address, object) : NULL;
}

struct sample *record_sample(const void *address, size_t size, double weight, const void *caller) {
    struct sampler *self = &sampler_self;
    bool was_busy = self->is_busy;
    int error = errno;
    self->is_busy = true;
    struct site_count object = {
        .objects = sampler_round(weight * SITE_OBJECT),
        .bytes = sampler_round(weight * (double)size),
    };
    struct sample *sample = make(address, &object, caller);
    sites_note_sample(!sample);
    self->is_busy = was_busy;
    errno = error;
    return sample;
}

void record_lost(void) {
    sites_note_sample(true);
}

void record_freed(const void *address) {
    if (sampler_self.is_forking)
        return; /* its address is found taken when it comes again (samples.c, L1) */
    int error = errno;
    samples_take(address);
    errno = error;
}
