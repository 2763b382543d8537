/* regex: patterns are checked for RE2's syntax, then compiled by PCRE2 with its JIT.
 *
 * Stack      JIT code would use 32 KiB of the machine stack, half of a coroutine's. It gets a stack of
 *            its own instead, one per thread beside the match data: a match never parks, so it stays
 *            on its thread from start to end, and no other match can use them meanwhile. Without JIT
 *            (a system that forbids writable code) pcre2_match keeps its frames on the heap.
 * Limits     MATCH_LIMIT bounds the steps: the worst pattern costs some milliseconds, where PCRE2's
 *            default would hang a P for seconds. HEAP_LIMIT_KIB bounds the interpreter's frames.
 * Rejected   RE2 itself: C++, and one more library. Re-implementing its automaton: PCRE2's JIT is
 *            faster on every pattern that does not explode, and those that do are cut off. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "proxy/regex.h"

#include <pcre2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/stats.h"
#include "proxy/format.h"

LOG_COMPONENT(regex, "regex");

enum {
    MATCH_LIMIT = 1000000,
    HEAP_LIMIT_KIB = 4096,
    JIT_STACK_MIN = 32 * 1024,
    JIT_STACK_MAX = 512 * 1024,
    GROUPS_MAX = 10,   /* \0 .. \9 */
    REPEAT_MAX = 1000, /* RE2's */
};

struct regex {
    pcre2_code *code;
    uint32_t groups;
    bool jit;
    const struct statistic *gave_up;
};

/* ---- RE2's syntax ---- */

size_t regex_class_end(struct span p, size_t i) {
    i++;
    if (i < p.len && p.ptr[i] == '^')
        i++;
    if (i < p.len && p.ptr[i] == ']') /* a literal when it stands first */
        i++;
    while (i < p.len && p.ptr[i] != ']') {
        if (p.ptr[i] == '\\' && i + 1 < p.len)
            i++;
        else if (p.ptr[i] == '[' && i + 1 < p.len && p.ptr[i + 1] == ':') {
            size_t k = i + 2;
            while (k + 1 < p.len && !(p.ptr[k] == ':' && p.ptr[k + 1] == ']'))
                k++;
            if (k + 1 < p.len)
                i = k + 1;
        }
        i++;
    }
    return i + 1;
}

/* NULL, or what RE2 lacks of the group whose "(" is at i. */
static const char *group_problem(struct span p, size_t i) {
    if (i + 1 >= p.len)
        return NULL;
    if (p.ptr[i + 1] == '*')
        return "a verb (*...)";
    if (p.ptr[i + 1] != '?')
        return NULL;
    size_t k = i + 2;
    if (k < p.len && p.ptr[k] == 'P')
        return k + 1 < p.len && p.ptr[k + 1] == '<' ? NULL : "a reference (?P...)";
    if (k < p.len && p.ptr[k] == '<')
        return k + 1 < p.len && (p.ptr[k + 1] == '=' || p.ptr[k + 1] == '!') ? "a look-behind"
                                                                             : NULL;
    if (k < p.len && (p.ptr[k] == '=' || p.ptr[k] == '!'))
        return "a look-ahead";
    while (k < p.len && (p.ptr[k] == 'i' || p.ptr[k] == 'm' || p.ptr[k] == 's' || p.ptr[k] == 'U' ||
                         p.ptr[k] == '-'))
        k++;
    return k < p.len && (p.ptr[k] == ':' || p.ptr[k] == ')') ? NULL : "a group of that kind";
}

static size_t read_count(struct span p, size_t k, unsigned *count) {
    *count = 0;
    while (k < p.len && p.ptr[k] >= '0' && p.ptr[k] <= '9') {
        *count = *count > REPEAT_MAX ? *count : *count * 10 + (unsigned)(p.ptr[k] - '0');
        k++;
    }
    return k;
}

/* Length of a "{n}", "{n,}" or "{n,m}" that starts at i; 0 when it is an ordinary brace. */
static size_t counted_repeat(struct span p, size_t i, unsigned *highest) {
    unsigned count;
    size_t k = read_count(p, i + 1, highest);
    if (k == i + 1)
        return 0;
    if (k < p.len && p.ptr[k] == ',') {
        k = read_count(p, k + 1, &count);
        *highest = count > *highest ? count : *highest;
    }
    return k < p.len && p.ptr[k] == '}' ? k + 1 - i : 0;
}

/* NULL, or what PCRE2 would take and RE2 would not. */
static const char *re2_lacks(struct span p) {
    bool after_repeat = false; /* the last item was * + ? or {n,m} */
    unsigned highest;
    size_t length;
    bool lazy = false; /* and a "?" behind it */
    for (size_t i = 0; i < p.len;) {
        char c = p.ptr[i];
        bool repeat = false;
        if (c == '\\') {
            char e = i + 1 < p.len ? p.ptr[i + 1] : '\0';
            if (e >= '1' && e <= '9')
                return "a backreference";
            if (e != '\0' && strchr("kgGKRXZhHNEe", e))
                return "that escape";
            if (e == 'Q') {
                i += 2;
                while (i + 1 < p.len && !(p.ptr[i] == '\\' && p.ptr[i + 1] == 'E'))
                    i++;
                i += 2;
            } else if ((e == 'p' || e == 'P' || e == 'x') && i + 2 < p.len && p.ptr[i + 2] == '{') {
                i += 3;
                while (i < p.len && p.ptr[i] != '}')
                    i++;
                i++;
            } else {
                i += 2;
            }
        } else if (c == '[') {
            i = regex_class_end(p, i);
        } else if (c == '(') {
            const char *lack = group_problem(p, i);
            if (lack)
                return lack;
            i++;
            if (i < p.len && p.ptr[i] == '?')
                i++; /* so that it does not look like a repeat */
        } else if (c == '*' || c == '+' || c == '?') {
            if (after_repeat && (c != '?' || lazy))
                return c == '+' ? "a possessive repeat" : "a repeat of a repeat";
            lazy = after_repeat && c == '?';
            repeat = true;
            i++;
        } else if (c == '{' && (length = counted_repeat(p, i, &highest)) > 0) {
            if (after_repeat)
                return "a repeat of a repeat";
            if (highest > REPEAT_MAX)
                return "a repeat of more than 1000 times";
            repeat = true;
            i += length;
        } else {
            i++;
        }
        after_repeat = repeat;
        if (!repeat)
            lazy = false;
    }
    return NULL;
}

/* ---- compiling ---- */

struct regex *regex_compile(struct span pattern, enum regex_mode mode, char *error) {
    const char *lack = re2_lacks(pattern);
    if (lack) {
        snprintf(error, REGEX_ERROR_MAX, "%s is not part of RE2's syntax", lack);
        return NULL;
    }
    /* As RE2: "$" is the end of the text and not also before a last newline; bytes that are no
     * UTF-8 match nothing. */
    uint32_t options =
        PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
    if (mode == REGEX_FULL)
        options |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
    int code = 0;
    PCRE2_SIZE offset = 0;
    struct regex *regex = calloc(1, sizeof(*regex));
    if (!regex) {
        snprintf(error, REGEX_ERROR_MAX, "out of memory");
        return NULL;
    }
    regex->code = pcre2_compile((PCRE2_SPTR)(pattern.ptr ? pattern.ptr : ""), pattern.len, options,
                                &code, &offset, NULL);
    if (!regex->code) {
        char text[160] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
        snprintf(error, REGEX_ERROR_MAX, "%s at offset %zu", text, (size_t)offset);
        free(regex);
        return NULL;
    }
    regex->jit = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
    (void)pcre2_pattern_info(regex->code, PCRE2_INFO_CAPTURECOUNT, &regex->groups);
    struct span name = SPAN_LIT("regex.match_limit_exceeded");
    regex->gave_up = stats_get(STAT_COUNTER, name, name, NULL, 0);
    return regex;
}

void regex_free(struct regex *regex) {
    if (!regex)
        return;
    pcre2_code_free(regex->code);
    free(regex);
}

unsigned regex_groups(const struct regex *regex) {
    return regex->groups;
}

/* ---- matching ---- */

/* What one thread needs to match; made at its first match, freed at its end. */
struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static pthread_once_t matcher_once = PTHREAD_ONCE_INIT;
static pthread_key_t matcher_key;

static void matcher_free(void *arg) {
    struct matcher *matcher = arg;
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    pcre2_jit_stack_free(matcher->stack);
    free(matcher);
}

static void matcher_key_make(void) {
    ASSERT(pthread_key_create(&matcher_key, matcher_free) == 0);
}

static struct matcher *matcher_new(void) {
    struct matcher *matcher = calloc(1, sizeof(*matcher));
    if (!matcher)
        return NULL;
    matcher->data = pcre2_match_data_create(GROUPS_MAX, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    matcher->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (!matcher->data || !matcher->context || !matcher->stack ||
        pthread_setspecific(matcher_key, matcher) != 0) {
        matcher_free(matcher);
        return NULL;
    }
    pcre2_set_match_limit(matcher->context, MATCH_LIMIT);
    pcre2_set_heap_limit(matcher->context, HEAP_LIMIT_KIB);
    pcre2_jit_stack_assign(matcher->context, NULL, matcher->stack);
    return matcher;
}

/* The thread's own. Not inlined: the caller may be a coroutine, which wakes up on another thread
 * after a park, and must not keep what was looked up before it. NULL when memory is short. */
static NOINLINE struct matcher *matcher_get(void) {
    (void)pthread_once(&matcher_once, matcher_key_make);
    struct matcher *matcher = pthread_getspecific(matcher_key);
    return matcher ? matcher : matcher_new();
}

/* Number of pairs set in the match data, or 0 for no match. */
static int run(const struct regex *regex, struct matcher *matcher, struct span subject,
               size_t from) {
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)(subject.ptr ? subject.ptr : ""), subject.len,
                         from, 0, matcher->data, matcher->context);
    if (rc > 0)
        return rc;
    if (rc == 0)
        return GROUPS_MAX; /* more groups than pairs: all pairs are set */
    if (rc != PCRE2_ERROR_NOMATCH) {
        /* Which P this is, is not known here; such matches are rare enough for an atomic add. */
        stat_inc(regex->gave_up, STATS_SHARD_FOREIGN);
        LOG(log_regex, LOG_DEBUG, "a match was given up: PCRE2 error %d on %zu bytes", rc,
            subject.len);
    }
    return 0;
}

bool regex_matches(const struct regex *regex, struct span subject) {
    struct matcher *matcher = matcher_get();
    return matcher && run(regex, matcher, subject, 0) > 0;
}

/* ---- replacing ---- */

int regex_substitution_check(struct span substitution) {
    int highest = 0;
    for (size_t i = 0; i < substitution.len; i++) {
        if (substitution.ptr[i] != '\\')
            continue;
        i++;
        char c = i < substitution.len ? substitution.ptr[i] : '\0';
        if (c >= '0' && c <= '9')
            highest = c - '0' > highest ? c - '0' : highest;
        else if (c != '\\')
            return -1;
    }
    return highest;
}

static void put_substitution(struct span subject, struct span substitution, const PCRE2_SIZE *pairs,
                             int pair_count, struct format_out *out) {
    for (size_t i = 0; i < substitution.len; i++) {
        size_t start = i;
        while (i < substitution.len && substitution.ptr[i] != '\\')
            i++;
        format_out_put(out, span_make(substitution.ptr + start, i - start));
        if (++i >= substitution.len)
            break;
        char c = substitution.ptr[i];
        if (c == '\\') {
            format_out_put(out, SPAN_LIT("\\"));
        } else {
            int group = c - '0';
            if (group < pair_count && pairs[2 * group] != PCRE2_UNSET)
                format_out_put(out, span_make(subject.ptr + pairs[2 * group],
                                              pairs[2 * group + 1] - pairs[2 * group]));
        }
    }
}

void regex_replace_all(const struct regex *regex, struct span subject, struct span substitution,
                       struct format_out *out) {
    int highest = regex_substitution_check(substitution);
    if (highest < 0 || (unsigned)highest > regex->groups) {
        format_out_put(out, subject);
        return;
    }
    struct matcher *matcher = matcher_get();
    if (!matcher) {
        out->failed = true;
        return;
    }
    size_t at = 0;
    size_t last_end = SIZE_MAX;
    while (at <= subject.len) {
        int pair_count = run(regex, matcher, subject, at);
        if (pair_count == 0)
            break;
        const PCRE2_SIZE *pairs = pcre2_get_ovector_pointer(matcher->data);
        size_t start = pairs[0];
        size_t end = pairs[1];
        format_out_put(out, span_make(subject.ptr + at, start - at));
        if (start == end && start == last_end) { /* no empty match at the end of the last match */
            size_t step = 1;
            while (start + step < subject.len &&
                   ((unsigned char)subject.ptr[start + step] & 0xc0) == 0x80)
                step++;
            if (start < subject.len)
                format_out_put(out, span_make(subject.ptr + start, step));
            at = start + step;
            continue;
        }
        put_substitution(subject, substitution, pairs, pair_count, out);
        at = last_end = end;
    }
    if (at < subject.len)
        format_out_put(out, span_from(subject, at));
}
