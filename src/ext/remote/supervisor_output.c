/* supervisor_output: see the header. The rate is a bucket of time: a line takes 1 / SUPERVISOR_OUTPUT_PER_S of a second out of it. */
#include "ext/remote/supervisor_output.h"

#include <stdio.h>

#include "base/clock.h"

LOG_COMPONENT(isolation, "isolation");

static const int64_t line_ns = NS_PER_S / SUPERVISOR_OUTPUT_PER_S;
static const int64_t full_ns = SUPERVISOR_OUTPUT_BURST * (NS_PER_S / SUPERVISOR_OUTPUT_PER_S);

void supervisor_output_init(struct supervisor_output *output,
                            struct span library BORROWED_BY(output), int64_t now_ns) {
    *output = (struct supervisor_output){.library = library, .tokens_ns = full_ns, .at_ns = now_ns};
}

/* Of "[a][b]...": a, and *rest goes on behind it. Absent when there is none. */
static struct span next_bracket(struct span *rest) {
    ptrdiff_t end = span_find(*rest, ']');
    if (end < 1 || rest->ptr[0] != '[')
        return span_none();
    struct span inner = span_make(rest->ptr + 1, (size_t)end - 1);
    *rest = span_from(*rest, (size_t)end + 1);
    return inner;
}

static struct log_component *component_named(struct span name) {
    for (unsigned i = 0; log_component_at(i); i++)
        if (span_eq(span_of(log_component_at(i)->name), name))
            return log_component_at(i);
    return NULL;
}

/* "[2026-01-31 12:00:00.123][tid][level][component] text". False: it is not of our format. */
static bool split(struct span line, struct log_component **component, enum log_level *level,
                  struct span *text) {
    struct span rest = line;
    (void)next_bracket(&rest); /* the time */
    struct span tid = next_bracket(&rest), of = next_bracket(&rest), name = next_bracket(&rest);
    uint64_t number;
    enum log_level said;
    struct log_component *ours = span_is_none(name) ? NULL : component_named(name);
    if (!ours || !span_to_u64(tid, &number) || !log_level_parse(of, &said) || said >= LOG_OFF ||
        rest.len == 0 || rest.ptr[0] != ' ')
        return false;
    *component = ours;
    *level = said;
    *text = span_from(rest, 1);
    return true;
}

static bool may_write(struct supervisor_output *output, int64_t now_ns) {
    int64_t passed_ns = now_ns - output->at_ns;
    output->at_ns = now_ns;
    output->tokens_ns =
        passed_ns > full_ns - output->tokens_ns ? full_ns : output->tokens_ns + passed_ns;
    if (output->tokens_ns < line_ns)
        return false;
    output->tokens_ns -= line_ns;
    return true;
}

static void say_left_out(struct supervisor_output *output) {
    if (output->left_out)
        LOG(log_isolation, LOG_WARN, "%.*s: %llu lines of its output were left out",
            (int)output->library.len, output->library.ptr, (unsigned long long)output->left_out);
    output->left_out = 0;
}

static void put_line(struct supervisor_output *output, struct span line, int64_t now_ns) {
    if (!may_write(output, now_ns)) {
        output->left_out++;
        output->left_out_in_all++;
        return;
    }
    struct log_component *component = &log_isolation;
    enum log_level level = LOG_INFO;
    struct span text = line;
    (void)split(line, &component, &level, &text); /* else it is said as it is */
    say_left_out(output);
    LOG(*component, level, "%.*s: %.*s", (int)output->library.len, output->library.ptr,
        (int)text.len, text.ptr);
}

static void end_line(struct supervisor_output *output, int64_t now_ns) {
    put_line(output, span_make(output->line, output->len), now_ns);
    output->len = 0;
}

void supervisor_output_take(struct supervisor_output *output, struct span bytes, int64_t now_ns) {
    while (bytes.len > 0) {
        ptrdiff_t end = span_find(bytes, '\n');
        size_t len = end < 0 ? bytes.len : (size_t)end;
        size_t room = sizeof(output->line) - output->len;
        size_t taken = len < room ? len : room;
        memcpy(output->line + output->len, bytes.ptr, taken);
        output->len += taken;
        bool is_whole = end >= 0 && taken == len;
        if (is_whole || output->len == sizeof(output->line))
            end_line(output, now_ns);
        bytes = span_from(bytes, taken + is_whole);
    }
}

void supervisor_output_end(struct supervisor_output *output, int64_t now_ns) {
    if (output->len)
        end_line(output, now_ns);
    say_left_out(output);
}
