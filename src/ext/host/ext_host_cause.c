/* ext_host_cause: what Go prints when it ends a process looks like this:
 *
 *     panic: no such host                       a headline
 *     [signal SIGSEGV: ...]                     perhaps
 *                                               a blank line
 *     runtime stack:                            perhaps, with frames: of no use to an author
 *     goroutine 1 [running, locked to thread]:  the goroutine that it happened in comes first
 *     main.init.0()
 *             /src/filter.go:12 +0x1d
 *                                               a blank line, then the other goroutines
 *
 * A crash in C code has "SIGSEGV: segmentation violation" for a headline, and frames of the runtime, which
 * are left out. Before it may stand anything. So the first line that begins a goroutine is looked for, and the headline is
 * the nearest one above. A process that was made to dump (it was stuck) has no headline; there the
 * goroutine that runs init functions is shown, or the one that we called.
 *
 * Where no Go is, a crash is told by our own handler (rt/crash.c), also when it was made because the process was stuck:
 *
 *     sluice 0.1.0 got SIGSEGV at address 0x8, on a thread outside the runtime
 *     registers: rip=0x...
 *     sluice(+0x41ac7)[0x55e8b7939485]           the handler
 *     /lib/.../libc.so.6(+0x3c050)[0x7f...]      who called that
 *     /lib/.../libc.so.6(+0x9b7a2)[0x7f...]      where it happened ...
 *     /opt/filter.so(+0x1182)[0x7f...]           ... up to the last frame of the library's
 *     sluice(+0x411d0)[0x5627cd2591d0]           what called it */
#include "ext/host/ext_host_cause.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { LAST_LINES = 8 }; /* of a process that ended without a traceback */

struct range { /* of the output, whole lines */
    size_t from, to;
};

static struct span line_at(struct span output, size_t at) {
    struct span rest = span_from(output, at);
    ptrdiff_t end = span_find(rest, '\n');
    return end < 0 ? rest : span_make(rest.ptr, (size_t)end);
}

static size_t next_line(struct span output, size_t at) {
    size_t next = at + line_at(output, at).len + 1;
    return next < output.len ? next : output.len;
}

static bool is_headline(struct span line) {
    return span_starts_with(line, SPAN_LIT("panic: ")) ||
           span_starts_with(line, SPAN_LIT("fatal error: ")) ||
           (span_starts_with(line, SPAN_LIT("SIG")) && span_find(line, ':') > 0);
}

static bool is_goroutine(struct span line) {
    return span_starts_with(line, SPAN_LIT("goroutine ")) && line.len > 0 &&
           line.ptr[line.len - 1] == ':';
}

/* From a goroutine's first line to the blank one behind it. */
static struct range goroutine_from(struct span output, size_t at) {
    struct range block = {at, at};
    while (block.to < output.len && line_at(output, block.to).len > 0)
        block.to = next_line(output, block.to);
    return block;
}

static struct range next_goroutine(struct span output, size_t at) {
    while (at < output.len && !is_goroutine(line_at(output, at)))
        at = next_line(output, at);
    return goroutine_from(output, at);
}

static bool contains(struct span output, struct range block, struct span text) {
    return memmem(output.ptr + block.from, block.to - block.from, text.ptr, text.len) != NULL;
}

/* An init function, or what C called. */
static bool is_in_library(struct span output, struct range block) {
    return contains(output, block, SPAN_LIT("runtime.doInit")) ||
           contains(output, block, SPAN_LIT("_cgoexp_"));
}

static struct range stuck_goroutine(struct span output) {
    struct range first = {output.len, output.len};
    for (size_t at = 0; at < output.len;) {
        struct range block = next_goroutine(output, at);
        if (block.from < output.len && is_in_library(output, block))
            return block;
        if (first.from == output.len || contains(output, first, SPAN_LIT("goroutine 0 ")) ||
            (contains(output, block, SPAN_LIT("\nmain.")) &&
             !contains(output, first, SPAN_LIT("\nmain."))))
            first = block;
        at = block.to + 1;
    }
    return first;
}

/* The nearest headline above the first goroutine; output.len when there is none. */
static size_t headline_before(struct span output, size_t end) {
    size_t found = output.len;
    for (size_t at = 0; at < end; at = next_line(output, at))
        if (is_headline(line_at(output, at)))
            found = at;
    return found;
}

static struct range last_lines(struct span output) {
    struct range range = {output.len, output.len};
    for (int lines = 0; range.from > 0 && lines <= LAST_LINES;) {
        range.from--;
        lines += output.ptr[range.from] == '\n';
    }
    if (range.from > 0)
        range.from = next_line(output, range.from);
    return range;
}

/* Frames of the runtime and of the machinery between C and Go: a function's line, then its place's. */
static bool is_runtimes(struct span line) {
    return span_starts_with(line, SPAN_LIT("runtime.")) ||
           span_starts_with(line, SPAN_LIT("_cgoexp_"));
}

/* Without the registers of a frame, or what a crash tells of a goroutine's structures: "goroutine 1" of
 * "goroutine 1 gp=0x1 m=0 mp=0x2 [select]:". */
static struct span without_addresses(struct span line, struct span mark) {
    const char *at = memmem(line.ptr, line.len, mark.ptr, mark.len);
    return at ? span_make(line.ptr, (size_t)(at - line.ptr)) : line;
}

/* " [select]:" of that, when something was left out before it. */
static struct span state_of(struct span line, size_t shown) {
    ptrdiff_t at = span_find(span_from(line, shown), '[');
    return at < 1 ? span_make("", 0) : span_from(line, shown + (size_t)at - 1);
}

/* ---- our own report ---- */

static bool is_report(struct span line) {
    return span_starts_with(line, SPAN_LIT("sluice ")) && memmem(line.ptr, line.len, " got SIG", 8);
}

static bool has(struct span line, struct span text) {
    return memmem(line.ptr, line.len, text.ptr, text.len) != NULL;
}

static bool is_frame(struct span line) {
    return has(line, SPAN_LIT("[0x")) && has(line, SPAN_LIT("("));
}

static bool is_ours(struct span line) {
    return span_starts_with(line, SPAN_LIT("sluice("));
}

static bool is_of_library(struct span line) {
    return !is_ours(line) && has(line, SPAN_LIT(".so")) && !has(line, SPAN_LIT("/libc.so")) &&
           !has(line, SPAN_LIT("/ld-linux"));
}

/* Its first line's place; output.len: there is none. */
static size_t report_in(struct span output) {
    for (size_t at = 0; at < output.len; at = next_line(output, at))
        if (is_report(line_at(output, at)))
            return at;
    return output.len;
}

/* The frames that concern the library; empty when none is its own. */
static struct range frames_in(struct span output, size_t report) {
    size_t at = next_line(output, next_line(output, report)); /* behind the registers */
    while (at < output.len && is_ours(line_at(output, at)))
        at = next_line(output, at);
    at = next_line(output, at); /* who called the handler */
    struct range frames = {at, at};
    for (; at < output.len && is_frame(line_at(output, at)); at = next_line(output, at))
        if (is_of_library(line_at(output, at)))
            frames.to = next_line(output, at);
    return frames;
}

/* What a terminal would act on is not passed on. */
static void put_text(FILE *out, struct span text) {
    size_t len = text.len < CAUSE_LINE_BYTES_MAX ? text.len : CAUSE_LINE_BYTES_MAX;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        fputc(c == '\t' || (c >= ' ' && c != 0x7f) ? c : '?', out);
    }
}

static void put_lines(FILE *out, struct span output, struct range range) {
    int lines = 0;
    bool skips = false;
    for (size_t at = range.from; at < range.to; at = next_line(output, at)) {
        struct span line = line_at(output, at);
        if (line.len > 0 && line.ptr[0] != '\t')
            skips = is_runtimes(line);
        if (line.len == 0 || skips)
            continue;
        if (++lines > CAUSE_LINES_MAX) {
            fputs("\n    ...", out);
            return;
        }
        fputs("\n    ", out);
        if (is_goroutine(line)) {
            struct span name = without_addresses(line, SPAN_LIT(" gp=0x"));
            put_text(out, name);
            put_text(out, state_of(line, name.len));
        } else {
            put_text(out, without_addresses(without_addresses(line, SPAN_LIT(" fp=0x")),
                                            SPAN_LIT("[0x")));
        }
    }
}

/* "SIGSEGV at address 0x8", unless it was sent to one that was stuck; and the frames. */
static void put_report(FILE *out, struct span output, size_t report, bool is_stuck) {
    struct span line = line_at(output, report);
    const char *got = memmem(line.ptr, line.len, "SIG", 3);
    ptrdiff_t comma = span_find(line, ',');
    if (!is_stuck && comma > got - line.ptr) {
        fputs("\n    ", out);
        put_text(out, span_make(got, (size_t)(line.ptr + comma - got)));
    }
    put_lines(out, output, frames_in(output, report));
}

static void put_verdict(FILE *out, int status, int64_t stuck_ms, struct span headline) {
    if (stuck_ms)
        fprintf(out, "gave no answer within %g s", (double)stuck_ms / 1000);
    else if (span_starts_with(headline, SPAN_LIT("panic: ")))
        fputs("panicked", out);
    else if (headline.len)
        fputs("crashed", out);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        fputs("was killed by SIGKILL, as the kernel does when memory is short", out);
    else if (WIFSIGNALED(status))
        fprintf(out, "crashed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        fprintf(out, "ended the process with exit status %d", WEXITSTATUS(status));
}

char *ext_host_cause(struct span output, int status, int64_t stuck_ms) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    struct range block = stuck_ms ? stuck_goroutine(output) : next_goroutine(output, 0);
    size_t headline = stuck_ms ? output.len : headline_before(output, block.from);
    put_verdict(out, status, stuck_ms,
                headline < output.len ? line_at(output, headline) : span_make("", 0));
    if (headline < output.len) {
        struct range above = {headline, headline};
        while (above.to < block.from && line_at(output, above.to).len > 0)
            above.to = next_line(output, above.to);
        put_lines(out, output, above);
    }
    size_t report = report_in(output);
    if (block.from < output.len)
        put_lines(out, output, block);
    else if (report < output.len)
        put_report(out, output, report, stuck_ms != 0);
    else if (headline == output.len && !stuck_ms)
        put_lines(out, output, last_lines(output));
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
