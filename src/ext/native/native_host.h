/* native_host: what plug-ins can ask of us, as the table that they are given. Contracts: include/sluice/filter.h. */
#pragma once
#include "base/log.h"
#include "base/span.h"
#include "http/header_map.h"
#include <sluice/filter.h>

extern const struct sluice_host native_host;
extern struct log_component log_native;
/* What sluice_workers says where no runtime is, in a host process. Before a plug-in asks. */
void native_workers_announce(unsigned count);
struct native_fault;
/* A plug-in's sluice_blocking_call: as there, but that -EFAULT, with the fault, is for the caller to tell. Parks. */
MUST_CHECK int native_blocking_call(const struct sluice_exchange *e, void (*fn)(void *arg),
                                    void *arg, struct native_fault *fault);

static inline struct span native_span(struct sluice_span span) {
    return span_make(span.ptr, span.len);
}
static inline struct sluice_span native_span_of(struct span span) {
    return sluice_bytes(span.ptr, span.len);
}
