/* json_match: where in the document we are, seen from the asked paths.
 *
 *     {"model": "a", "messages": [ {"role": "user", ...}, ... ], ...}
 *      ^ level 1                   ^ level 3
 *
 * A level is an open container that some path leads into, so there are JSON_SEGMENTS_MAX of them at most. For
 * each there is a word with the paths that got so far. What no path leads into is slept through: the
 * kernel, which counts depths anyway, wakes us when it is back at our level, and until then no token is looked at
 * here. Once a container has nothing more to say to anybody, it is left early, in the same manner.
 *
 * I1  active[n + 1] is a part of active[n], for n below `level`.
 * I2  Awake: the depth of the next token is `level`. Asleep: greater, until a bracket closes at depth wake.
 *
 * What is captured, a key or a value, lies in the span; only where a span ends within it is it copied.
 * Rejected  A trie of the paths: with wildcards beside numbers one is in several of its nodes at once, and a set of
 *           paths is one word anyway. */
#include "http/json_match.h"

static uint32_t bit_of(unsigned i) {
    return UINT32_C(1) << i;
}

void json_match_init(struct json_scan *scan) {
    struct json_match *m = &scan->match;
    m->active[0] = scan->paths->all;
    m->arrays = m->pending = m->answered = m->closed = 0;
    m->level = 0;
    m->wake = scan->paths->all ? JSON_AWAKE : JSON_WAKE_NEVER;
    m->capture = JSON_CAPTURE_NONE;
    m->pieces = false;
    m->from = 0;
}

/* Who has use for a value. A scan that goes to the end tells repetitions, too. */
static uint32_t wanted_of(const struct json_scan *scan) {
    return scan->options.stop_when_found ? ~scan->match.closed : ~UINT32_C(0);
}

/* ---- what a path says ---- */

static uint32_t match_key(const struct json_scan *scan, struct span key) {
    const struct json_match *m = &scan->match;
    unsigned at = m->level - 1u;
    uint32_t hits = 0;
    for (uint32_t rest = m->active[m->level] & scan->paths->keys[at]; rest; rest &= rest - 1) {
        unsigned i = (unsigned)__builtin_ctz(rest);
        if (span_eq(key, scan->paths->paths[i].segments[at].key))
            hits |= bit_of(i);
    }
    return hits;
}

static uint32_t match_element(const struct json_scan *scan, uint32_t index) {
    const struct json_match *m = &scan->match;
    unsigned at = m->level - 1u;
    uint32_t hits = m->active[m->level] & scan->paths->any[at];
    for (uint32_t rest = m->active[m->level] & scan->paths->indexes[at]; rest; rest &= rest - 1) {
        unsigned i = (unsigned)__builtin_ctz(rest);
        if (scan->paths->paths[i].segments[at].index == index)
            hits |= bit_of(i);
    }
    return hits;
}

/* The paths whose beginning leads to the value that begins here. */
static uint32_t next_value(struct json_scan *scan) {
    struct json_match *m = &scan->match;
    uint32_t wanted = wanted_of(scan);
    if (m->level == 0)
        return m->active[0] & wanted;
    if (!(m->arrays & bit_of(m->level)))
        return m->pending & wanted;
    uint32_t index = m->index[m->level];
    if (index <= JSON_INDEX_MAX)
        m->index[m->level] = index + 1;
    return match_element(scan, index) & wanted;
}

/* ---- telling ---- */

static void tell(struct json_scan *scan, uint32_t to, enum json_kind kind, struct span text,
                 bool too_long) {
    struct json_match *m = &scan->match;
    struct json_value value = {
        .kind = kind, .too_long = too_long, .text = too_long ? span_none() : text};
    for (; to; to &= to - 1) {
        value.path = (uint32_t)__builtin_ctz(to);
        value.again = (m->answered & bit_of(value.path)) != 0;
        bool more = scan->options.on_value(scan->options.arg, &value);
        m->answered |= bit_of(value.path);
        if (!more || (scan->paths->single & bit_of(value.path)))
            m->closed |= bit_of(value.path);
    }
}

static enum json_kind scalar_kind(char first) {
    switch (first) {
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

/* What was captured ends before byte `end` of the span. */
static void captured(struct json_scan *scan, const char *span, size_t end) {
    struct json_match *m = &scan->match;
    enum json_capture what = m->capture;
    struct span text = span_make(span + m->from, end - m->from);
    bool too_long = false;
    m->capture = JSON_CAPTURE_NONE;
    if (m->pieces || (what != JSON_CAPTURE_SCALAR && memchr(text.ptr, '\\', text.len))) {
        if (!m->pieces)
            json_text_init(&m->text, what == JSON_CAPTURE_KEY ? m->key : scan->options.text,
                           what == JSON_CAPTURE_KEY ? JSON_KEY_MAX : scan->options.text_size);
        m->pieces = false;
        json_text_add(&m->text, text);
        text = json_text_span(&m->text);
        too_long = m->text.too_long;
    } else if (what != JSON_CAPTURE_KEY) {
        too_long = text.len > scan->options.text_size;
    }
    if (what == JSON_CAPTURE_KEY)
        m->pending = too_long ? 0 : match_key(scan, text);
    else
        tell(scan, m->pending, m->kind, text, too_long);
}

void json_match_keep(struct json_scan *scan, struct span span) {
    struct json_match *m = &scan->match;
    if (m->capture == JSON_CAPTURE_NONE)
        return;
    if (!m->pieces) {
        bool key = m->capture == JSON_CAPTURE_KEY;
        json_text_init(&m->text, key ? m->key : scan->options.text,
                       key ? JSON_KEY_MAX : scan->options.text_size);
        m->pieces = true;
    }
    json_text_add(&m->text, span_from(span, m->from));
}

/* ---- walking ---- */

static uint64_t from_bit(unsigned i) {
    return i < 64 ? ~UINT64_C(0) << i : 0;
}

/* Where the captured thing that begins at or before byte i ends; 64 and more: not in this block. */
static unsigned end_of(const struct json_view *view, enum json_capture what, unsigned i) {
    uint64_t ends = what == JSON_CAPTURE_SCALAR ? ~view->scalar_bytes : view->string_ends;
    ends &= from_bit(i);
    unsigned end = ends ? (unsigned)__builtin_ctzll(ends) : 64;
    return end < view->count ? end : 64;
}

/* From byte i on. Whether its end is here; an error before the end means that it has none. */
static bool capture_here(struct json_scan *scan, const struct json_view *view, unsigned i) {
    unsigned end = end_of(view, scan->match.capture, i);
    if (end == 64 || !(view->good >> end & 1))
        return false;
    captured(scan, view->span, view->at + end);
    return true;
}

static void enter(struct json_scan *scan, uint32_t paths, bool array) {
    struct json_match *m = &scan->match;
    m->level++;
    m->active[m->level] = paths;
    m->index[m->level] = 0;
    m->arrays = (m->arrays & ~bit_of(m->level)) | (array ? bit_of(m->level) : 0);
    m->pending = 0;
}

/* Drops the tokens ahead up to the end of what is skipped, `depth` containers deep; how deep it is after the block. */
static unsigned skip(const struct json_view *view, uint64_t *tokens, unsigned depth) {
    uint64_t rest = *tokens & (view->open | view->close);
    while (rest && depth) {
        uint64_t bit = rest & -rest;
        depth += view->open & bit ? 1u : -1u;
        rest &= ~bit;
        *tokens &= ~(bit | (bit - 1));
    }
    if (depth)
        *tokens = 0;
    return depth;
}

/* Leaves containers that have nothing more to say; how many. */
static unsigned leave(struct json_scan *scan) {
    struct json_match *m = &scan->match;
    unsigned left = 0;
    while (m->level && !(m->active[m->level] & wanted_of(scan))) {
        m->level--;
        left++;
    }
    return left;
}

/* How many containers deep it is in what is skipped. */
static unsigned walk_value(struct json_scan *scan, const struct json_view *view, unsigned i) {
    struct json_match *m = &scan->match;
    uint64_t bit = UINT64_C(1) << i;
    uint32_t paths = next_value(scan), ends = paths & scan->paths->lengths[m->level];
    if (view->open & bit) {
        bool array = view->span[view->at + i] == '[';
        tell(scan, ends, array ? JSON_ARRAY : JSON_OBJECT, span_none(), false);
        paths &= ~ends;
        if (!paths)
            return 1 + leave(scan);
        enter(scan, paths, array);
        return 0;
    }
    if (!ends)
        return 0;
    m->pending = ends;
    m->capture = view->strings & bit ? JSON_CAPTURE_STRING : JSON_CAPTURE_SCALAR;
    unsigned start = m->capture == JSON_CAPTURE_STRING ? i + 1 : i;
    m->from = view->at + start;
    m->kind = view->strings & bit ? JSON_STRING : scalar_kind(view->span[view->at + i]);
    return capture_here(scan, view, start) ? leave(scan) : 0;
}

static void walk_key(struct json_scan *scan, const struct json_view *view, unsigned i) {
    struct json_match *m = &scan->match;
    m->capture = JSON_CAPTURE_KEY;
    m->from = view->at + i + 1;
    (void)capture_here(scan, view, i + 1);
}

bool json_match_block(struct json_scan *scan, const struct json_view *view) {
    struct json_match *m = &scan->match;
    uint64_t tokens = (view->open | view->close | view->strings | view->scalars) & view->good &
                      from_bit(view->from);
    unsigned skipping = 0;
    m->wake = JSON_AWAKE;
    if (m->capture != JSON_CAPTURE_NONE) {
        enum json_capture what = m->capture;
        if (!capture_here(scan, view, 0))
            return false;
        if (what != JSON_CAPTURE_KEY)
            skipping = leave(scan);
    }
    for (;;) {
        if (skipping)
            skipping = skip(view, &tokens, skipping);
        if (!tokens)
            break;
        unsigned i = (unsigned)__builtin_ctzll(tokens);
        uint64_t bit = UINT64_C(1) << i;
        tokens &= tokens - 1;
        if (view->close & bit)
            m->level--;
        else if (view->keys & bit)
            walk_key(scan, view, i);
        else
            skipping = walk_value(scan, view, i);
    }
    if (skipping)
        m->wake = m->level;
    return scan->options.stop_when_found && (scan->paths->all & ~m->closed) == 0;
}
