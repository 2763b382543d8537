/* supervisor_output: what a host process prints, in our log: a line there is a line here, with the library's name, up to a rate.
 *
 *     panic: no such host          [..][info][isolation] payments: panic: no such host
 *     [..][error][golang] lost     [..][error][golang] payments: lost            it was our own format
 *
 * Threads    One at a time.
 * Ownership  Bytes are copied where a line is not whole yet.
 * Limits     SUPERVISOR_OUTPUT_LINE_MAX bytes of a line, the rest is a further one. SUPERVISOR_OUTPUT_BURST lines at once and
 *            SUPERVISOR_OUTPUT_PER_S from then on; how many were left out is said as soon as there is room, so what a
 *            process prints in an endless loop costs our log some 100 kB a second at most. */
#pragma once
#include "base/log.h"

extern struct log_component log_isolation;

enum {
    SUPERVISOR_OUTPUT_LINE_MAX = 1024,
    SUPERVISOR_OUTPUT_BURST = 1000,
    SUPERVISOR_OUTPUT_PER_S = 100
};

struct supervisor_output {
    struct span library;
    char line[SUPERVISOR_OUTPUT_LINE_MAX];
    size_t len;
    int64_t tokens_ns; /* of time, as much as lines may yet be written */
    int64_t at_ns;
    uint64_t left_out, left_out_in_all;
};

void supervisor_output_init(struct supervisor_output *output,
                            struct span library BORROWED_BY(output), int64_t now_ns);
void supervisor_output_take(struct supervisor_output *output, struct span bytes, int64_t now_ns);
/* The process is no more: what it has not ended is a line, and what was left out is said. It may go on with another. */
void supervisor_output_end(struct supervisor_output *output, int64_t now_ns);
