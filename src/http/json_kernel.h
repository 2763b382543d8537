/* json_kernel: the scanner's inner loop. Included by json_kernel_*.c, each with its own json_block_*.h.
 *
 * 64 bytes at a time become masks, a bit per byte, and the whole grammar is judged on masks: no loop over
 * tokens, hardly a branch that depends on data. What has to be known of the bytes before is a few bits (struct
 * json_carry), so a span may end anywhere: its last bytes are a block that is padded with blanks, and
 * nothing waits for more of them to come.
 *
 *     bytes     { " a \ " b " : [ 1 2 , t r u e ] }
 *     quotes      x           x                       those that no backslash takes away
 *     in_string   x x x x x x                         parity of the quotes so far: with the first, without the last
 *     tokens    x x             x x x   x x       x x
 *
 * What may stand behind what. follow(set) are the tokens whose predecessor is in the set. It takes one addition:
 * behind each token of the set a 1 is added at the bottom of the bytes that are no tokens, all ones, and ripples
 * through them to the next token. Sums of neighbours cannot meet, for there is a token in between.
 *
 *     T1  behind `{ [ , :` and at the start comes a value or a closing bracket, and nothing else
 *     T2  a closing bracket there only directly behind an opening one
 *     T3  behind everything else comes `, :` or a closing bracket
 *     T4  behind `{` and behind a comma of an object comes a string, the key, or T2's bracket
 *     T5  behind a key comes a colon, and nowhere else
 *     T6  brackets pair, and there are JSON_DEPTH_MAX of them open at most; a comma is in one
 *
 * Only T6 and the commas of T4 need to know what is open: for them there is a loop over the brackets.
 * Numbers, escapes and UTF-8 are judged in the same way, each by a few rules on neighbours; see there.
 *
 * E1  Every error is a bit at the byte with which it becomes one, however the document is cut. So what is
 *     told before it, and where it is, does not depend on the cutting.
 *
 * What depends on a document's bytes by chance has no branch: one that is guessed wrong costs as much as fifty instructions.
 * Branches are for what a document has all the time or never: no byte that is not plain ASCII, no
 * backslash so far, no exponent.
 *
 * Rejected  Reading a block into masks while the one before it is judged, for the sake of a machine that does both at
 *           once: what it costs to keep the masks is more than that gains.
 *           A list of the tokens' places and an automaton over them, as simdjson has it: the list takes memory as
 *           long as the document, and a step of the automaton per token costs more than the masks of a block.
 *           Tables for UTF-8 (Keiser and Lemire): they need 16-byte shuffles, which SSE2 has not, and where an
 *           error is they do not say; masks cost the same within some instructions per block. */
#pragma once
#include "http/json_match.h"

#define JSON_INLINE static inline __attribute__((always_inline))

/* Of containers. */
enum { KIND_ARRAY, KIND_OBJECT }; /* bit 5 of their brackets */

/* A mask whose bit i+1 is bit i of x; bit 0 is the last byte's. */
JSON_INLINE uint64_t after(uint64_t x, uint64_t last) {
    return (x << 1) + last;
}

/* ---- what is kept of a block of n bytes ---- */

JSON_INLINE uint64_t last_of(uint64_t x, unsigned n) {
    return x >> (n - 1) & 1;
}
/* The last 8 bytes' bits, those of the block before behind them. */
JSON_INLINE uint8_t last_8(uint64_t x, uint8_t before, unsigned n) {
    return (uint8_t)(n >= 8 ? x >> (n - 8) : x << (8 - n) | before >> n);
}
/* A mask whose bit i+k is bit i of x, the last 8 bytes' in front. */
JSON_INLINE uint64_t later(uint64_t x, uint8_t before, unsigned k) {
    return x << k | (uint64_t)before >> (8 - k);
}
/* Bits of `x << k` that belong to the bytes after these. */
JSON_INLINE uint64_t beyond(uint64_t x, unsigned k, unsigned n) {
    return n >= k ? x >> (n - k) : x << (k - n);
}

/* ---- strings ---- */

/* Bytes with a backslash before them that is none itself taken away. Of a run of backslashes every other one
 * counts, from its first on. Subtracting the run's first bit from odd bits borrows through it: what comes out differs from odd bits where
 * an escape is, and behind the run if it ends in one. */
JSON_INLINE uint64_t find_escaped(struct json_carry *c, uint64_t backslash, unsigned n) {
    const uint64_t odd = UINT64_C(0xaaaaaaaaaaaaaaaa);
    uint64_t first = backslash & ~c->escaped;
    uint64_t codes = (((first << 1) | odd) - first) ^ odd;
    uint64_t escaped = codes ^ (backslash | c->escaped);
    c->escaped = last_of(codes & backslash, n);
    return escaped;
}

/* Halves of surrogates: a high one comes first and a low one right behind it.
 *
 *     \ u d 8 x x \ u d c x x     H three bytes before a backslash, four before a u, and six before L
 *         D H         D L */
JSON_INLINE uint64_t check_halves(struct json_carry *c, struct json_block b, uint64_t units,
                                  uint64_t unit_d, uint64_t backslash, unsigned n) {
    struct json_block folded = block_fold(b);
    uint8_t d_before = c->pairs >> 8 & 0xff, high_before = (uint8_t)(c->pairs >> 16);
    uint64_t second = later(unit_d, d_before, 1), error;
    uint64_t high = second & (block_range(b, '8', 1) | block_range(folded, 'a', 1));
    uint64_t low = second & block_range(folded, 'c', 3);
    error = later(high, high_before, 3) & ~backslash;
    error |= later(high, high_before, 4) & ~units;
    error |= later(high, high_before, 6) ^ low;
    c->pairs = (c->pairs & 0xff) | (uint32_t)last_8(unit_d, d_before, n) << 8 |
               (uint32_t)last_8(high, high_before, n) << 16;
    return error;
}

/* Bytes behind a backslash that are not usual: \u and four digits, or one of the others. */
JSON_INLINE uint64_t check_escapes(struct json_carry *c, struct json_block b, uint64_t escaped,
                                   uint64_t usual, uint64_t backslash, unsigned n) {
    uint64_t units = escaped & block_eq(b, 'u'), error = 0;
    escaped &= ~(units | usual);
    if (escaped)
        error = escaped & ~(block_eq(b, '/') | block_eq(b, 'b') | block_eq(b, 'f') |
                            block_eq(b, 'r') | block_eq(b, 't'));
    if (!(units | c->pairs))
        return error;
    struct json_block folded = block_fold(b);
    uint8_t before = c->pairs & 0xff;
    uint64_t hex = block_range(b, '0', 9) | block_range(folded, 'a', 5);
    uint64_t first = later(units, before, 1), unit_d = first & block_eq(folded, 'd');
    error |= (first | later(units, before, 2) | later(units, before, 3) | later(units, before, 4)) &
             ~hex;
    if (unit_d | c->pairs >> 8)
        error |= check_halves(c, b, units, unit_d, backslash, n);
    c->pairs = (c->pairs & ~UINT32_C(0xff)) | last_8(units, before, n);
    return error;
}

/* Of E0 and F0 not all second bytes are right, as they would be overlong forms, nor of ED and F4: surrogates, and
 * what is above U+10FFFF. */
JSON_INLINE uint64_t check_second_bytes(struct json_carry *c, struct json_block b, uint64_t e0,
                                        uint64_t ed, uint64_t lead_4, unsigned n) {
    uint64_t from_a0 = block_from(b, 0xa0), error = 0, f0 = 0, f4 = 0;
    error |= after(e0, c->lead_e0) & ~from_a0;
    error |= after(ed, c->lead_ed) & from_a0;
    if (lead_4 | c->lead_f0 | c->lead_f4) {
        uint64_t from_90 = block_from(b, 0x90);
        f0 = block_eq(b, (char)0xf0);
        f4 = block_eq(b, (char)0xf4);
        error |= block_from(b, 0xf5);
        error |= after(f0, c->lead_f0) & ~from_90;
        error |= after(f4, c->lead_f4) & from_90;
    }
    c->lead_e0 = last_of(e0, n);
    c->lead_ed = last_of(ed, n);
    c->lead_f0 = last_of(f0, n);
    c->lead_f4 = last_of(f4, n);
    return error;
}

/* A lead byte and as many continuations as it says. C0 and C1 lead to overlong forms only. */
JSON_INLINE uint64_t check_utf8(struct json_carry *c, struct json_block b, unsigned n) {
    uint64_t lead = block_from(b, 0xc0), not_lead = block_high(b) & ~lead;
    uint64_t lead_3_4 = block_from(b, 0xe0), lead_4 = block_from(b, 0xf0);
    uint64_t due = lead << 1 | lead_3_4 << 2 | lead_4 << 3 | c->continuations;
    uint64_t error = (due ^ not_lead) | (lead & ~block_from(b, 0xc2));
    uint64_t e0 = block_eq(b, (char)0xe0), ed = block_eq(b, (char)0xed);
    if (e0 | ed | lead_4 | c->lead_e0 | c->lead_ed | c->lead_f0 | c->lead_f4)
        error |= check_second_bytes(c, b, e0, ed, lead_4, n);
    c->continuations = ((beyond(lead, 1, n) | beyond(lead_3_4, 2, n) | beyond(lead_4, 3, n) |
                         (n < 3 ? c->continuations >> n : 0)) &
                        7);
    return error;
}

/* ---- scalars ---- */

/* The bytes of a literal whose byte i is at p, of `len`; `word` is what has to come. */
JSON_INLINE uint64_t check_literal(struct json_carry *c, const char *word, const char *p,
                                   unsigned len, unsigned i, unsigned n) {
    for (unsigned k = 0; k < len; k++)
        if (word[k] == '\0' || word[k] != p[k])
            return UINT64_C(1) << (i + k);
    if (i + len >= n)
        c->literal = word + len;
    else if (word[len] != '\0')
        return UINT64_C(1) << (i + len);
    return 0;
}

JSON_INLINE uint64_t low_bits(unsigned n) {
    return n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
}

JSON_INLINE unsigned run_length(uint64_t x) {
    return ~x ? (unsigned)__builtin_ctzll(~x) : 64;
}

/* The literal that begins at byte i, if it is whole and the byte behind it is in this block, too: its bytes, from
 * bit 0 on; else 0: to be looked at closely. Without a branch for which one it is. */
JSON_INLINE uint64_t whole_literal(const char *p, uint64_t scalar, unsigned i, unsigned n) {
    static const struct {
        char head[4],
            tail[4]; /* the first four bytes, and those from the second on if there are five */
        uint32_t tail_mask, bytes;
    } words[4] = {{"fals", "alse", ~UINT32_C(0), 0x1f}, {"null", "", 0, 0xf}, {"true", "", 0, 0xf}};
    uint32_t head, tail, head_word, tail_word;
    if (i + 5 >= n)
        return 0;
    memcpy(&head, p + i, 4);
    memcpy(&tail, p + i + 1, 4);
    unsigned k = (unsigned)p[i] >> 3 & 3; /* of f, n and t: 0, 1 and 2 */
    memcpy(&head_word, words[k].head, 4);
    memcpy(&tail_word, words[k].tail, 4);
    uint64_t bytes = words[k].bytes,
             other = (head ^ head_word) | ((tail ^ tail_word) & words[k].tail_mask);
    return other | (scalar >> i & (bytes + 1)) ? 0 : bytes;
}

/* What stands between tokens that is neither blank nor string: the literals, one by one, are taken out of *numbers. */
JSON_INLINE uint64_t check_literals(struct json_carry *c, const char *p, uint64_t scalar,
                                    uint64_t words, uint64_t *numbers, unsigned n) {
    uint64_t error = 0;
    if (c->literal) {
        const char *word = c->literal;
        unsigned len = run_length(scalar);
        c->literal = NULL;
        error |= check_literal(c, word, p, len, 0, n);
        *numbers &= ~low_bits(len);
    }
    for (; words; words &= words - 1) {
        unsigned i = (unsigned)__builtin_ctzll(words), len;
        uint64_t bytes = whole_literal(p, scalar, i, n);
        if (!bytes) {
            const char *word = p[i] == 't'   ? "true"
                               : p[i] == 'f' ? "false"
                               : p[i] == 'n' ? "null"
                                             : "";
            len = run_length(scalar >> i);
            if (len > 64 - i)
                len = 64 - i;
            error |= check_literal(c, word, p + i, len, i, n);
            bytes = low_bits(len);
        }
        *numbers &= ~(bytes << i);
    }
    return error;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?  as rules on neighbours:
 *   N1  minus: at the start, or behind the e; plus: behind the e; a digit comes next
 *   N2  dot: a digit comes next;  e: a digit or a sign. Behind nothing but a digit, by N1, by this one, and as a
 *       scalar that begins with neither digit nor minus is taken for a literal
 *   N3  a zero at the start, or behind the minus there: no digit comes next
 *   N4  the digits behind a dot do not end in a dot, those behind an e neither in a dot nor in an e:
 *       so there is one of each at most, and in this order
 * Exponents are rare, so what is only about them is apart. */
struct json_numbers {
    uint64_t bytes, starts, digits, minus, dot;
};

/* Digits from `first` on: the bytes behind them, which are none. *open: they go on behind this block. */
JSON_INLINE uint64_t ends_of_runs(uint64_t digits, uint64_t first, uint8_t *open, unsigned n) {
    uint64_t sum = block_add(digits, first & digits, open);
    if (n < 64)
        *open = sum >> n & 1;
    return sum & ~digits;
}

enum { EXPONENT_E = 1, EXPONENT_SIGN = 2, EXPONENT_DIGIT = 4 }; /* what the last byte was */

JSON_INLINE uint64_t check_exponents(struct json_carry *c, struct json_block b,
                                     const struct json_numbers *number, uint64_t *signs,
                                     unsigned n) {
    uint64_t plus = number->bytes & block_eq(b, '+');
    uint64_t e = number->bytes & block_eq(block_fold(b), 'e');
    uint64_t after_e = after(e, c->exponents & 1), sign = (number->minus | plus) & after_e;
    uint64_t after_sign = after(sign, c->exponents >> 1 & 1);
    uint8_t open = c->exponents >> 2 & 1;
    uint64_t error = number->bytes & ~(number->digits | number->minus | number->dot | plus | e);
    error |= plus & ~after_e;
    error |= after_e & ~(number->digits | sign);
    error |= after_sign & ~number->digits;
    error |= ends_of_runs(number->digits, after_e | after_sign, &open, n) & (number->dot | e);
    c->exponents = last_of(e, n) | last_of(sign, n) << 1 | (uint64_t)open << 2;
    *signs = sign;
    return error;
}

JSON_INLINE uint64_t check_numbers(struct json_carry *c, struct json_block b,
                                   const struct json_numbers *number, unsigned n) {
    uint64_t digits = number->digits, dot = number->dot, signs = 0, error = 0;
    uint64_t leading = number->minus & number->starts;
    if ((number->bytes & ~(digits | number->minus | dot)) | c->exponents)
        error = check_exponents(c, b, number, &signs, n);
    uint64_t after_minus = after(leading, c->minus), after_dot = after(dot, c->dot);
    uint64_t zero = block_eq(b, '0') & (number->starts | after_minus);
    error |= number->minus & ~(number->starts | signs);
    error |= (after_minus | after_dot) & ~digits;
    error |= ends_of_runs(digits, after_dot, &c->fraction_run, n) & dot;
    error |= after(zero, c->zero) & digits;
    c->minus = last_of(leading, n);
    c->dot = last_of(dot, n);
    c->zero = last_of(zero, n);
    return error;
}

JSON_INLINE uint64_t check_scalars(struct json_carry *c, struct json_block b, const char *p,
                                   uint64_t scalar, uint64_t starts, unsigned n) {
    struct json_numbers number = {.bytes = scalar,
                                  .digits = block_range(b, '0', 9) & scalar,
                                  .minus = block_eq(b, '-') & scalar};
    uint64_t words = starts & ~(number.digits | number.minus), error = 0;
    if (words || c->literal) {
        error = check_literals(c, p, scalar, words, &number.bytes, n);
        number.minus &= number.bytes;
        number.digits &= number.bytes;
    }
    number.starts = starts & number.bytes;
    number.dot = block_eq(b, '.') & number.bytes;
    return error | check_numbers(c, b, &number, n);
}

/* What is kept between the blocks of a span. */
struct json_watch {
    bool awake;     /* the match wants to see every token */
    unsigned wake;  /* else the level at which it sleeps */
    int64_t lowest; /* the depth that brackets may come back to without anything to be done */
    /* There was a backslash, or an escape goes on: where one is, there are more, and by chance a block has one or
     * not. So from then on no branch depends on it; most documents have none. */
    uint64_t escapes;
};

/* ---- tokens ---- */

struct json_tokens {
    uint64_t open, close, comma, colon, strings, scalars; /* of the latter two the first bytes */
    uint64_t all;
};

/* Of tokens, those whose predecessor is in the set; of other bytes it says nothing. *last: whether the last token so far
 * is in it: the 1 behind that ripples out at the top. */
JSON_INLINE uint64_t follow(const struct json_tokens *t, uint64_t set, uint8_t *last) {
    return block_add(set, set | ~t->all, last);
}

/* What only counting tells; the brackets of a block are `rest`, those that open are `open`. */
struct json_depths {
    uint64_t error, woke;
};
static __attribute__((noinline, cold)) struct json_depths
count_depths(uint64_t open, uint64_t rest, uint64_t comma, unsigned depth, unsigned wake) {
    struct json_depths found = {0};
    if (depth == 0) /* a comma before the first bracket */
        found.error |= comma & ((rest & -rest) - 1);
    for (; rest; rest &= rest - 1) {
        uint64_t bit = rest & -rest;
        if (depth == (open & bit ? JSON_DEPTH_MAX : 0)) {
            found.error |= bit;
            break;
        }
        depth += open & bit ? 1u : -1u;
        if (open & bit)
            continue;
        if (depth == wake && !found.woke)
            found.woke = bit;
        if (depth == 0)
            found.error |= comma & (((rest & (rest - 1)) & -(rest & (rest - 1))) - bit);
    }
    return found;
}

/* T6. Returns the errors; *in_object: the bytes that stand in an object, its brackets apart. *woke: the first
 * bracket that brings us back to the level where somebody sleeps.
 *
 * Without a branch but the loop's: which bracket comes next is by chance. So the stack is written even where
 * nothing opens, and with brackets that do not pair depth may leave its bounds for the rest of the block. */
JSON_INLINE uint64_t pair_brackets(int8_t *kinds, struct json_carry *c, const struct json_tokens *t,
                                   const char *p, const struct json_watch *watch,
                                   uint64_t *in_object, uint64_t *woke) {
    uint64_t error = 0, rest = t->open | t->close, bit = rest & -rest, next;
    uint64_t object = c->in_object, inside = object & (bit - 1);
    int64_t depth = (int64_t)c->depth, lowest = depth;
    for (; rest; bit = next) {
        uint64_t byte = (uint8_t)p[__builtin_ctzll(rest)]; /* [ 0x5b  { 0x7b  ] 0x5d  } 0x7d */
        int64_t kind = (int64_t)(byte << 58) >> 63;
        rest &= rest - 1;
        next = rest & -rest;
        error |= (object ^ (uint64_t)kind) & bit;
        kinds[depth + 1] = (int8_t)kind;
        depth += (int64_t)(byte & 2) - 1;
        object = (uint64_t)(int64_t)kinds[depth];
        inside |= object & (next - bit); /* all ones from bit on, if there is no next one */
        lowest = depth < lowest ? depth : lowest;
    }
    error &= t->close;
    if (__builtin_expect(lowest < watch->lowest || c->depth > JSON_DEPTH_MAX - JSON_BLOCK, 0)) {
        struct json_depths found =
            count_depths(t->open, t->open | t->close, t->comma, (unsigned)c->depth, watch->wake);
        error |= found.error;
        *woke = found.woke;
    }
    *in_object = inside;
    c->in_object = object;
    c->depth = (uint64_t)depth;
    return error;
}

/* T1 to T6. *keys: the strings that are.
 *
 * What may come next is told by three bits, those that follow() moves from a token to its successor:
 *
 *                                     for_key  opened  due     next
 *     {                                  1        1     0      a key, or }
 *     comma of an object                 1        0     0      a key
 *     [                                  0        1     0      a value, or ]
 *     comma of an array, colon, start    0        0     1      a value
 *     key                                0        1     1      a colon
 *     all others                         0        0     0      a comma, or a closing bracket */
JSON_INLINE uint64_t check_tokens(int8_t *kinds, struct json_carry *c, const struct json_tokens *t,
                                  const char *p, const struct json_watch *watch, uint64_t *keys,
                                  uint64_t *woke) {
    uint64_t in_object;
    uint64_t error = pair_brackets(kinds, c, t, p, watch, &in_object, woke);
    uint64_t for_key = follow(t, (t->open | t->comma) & in_object, &c->for_key);
    *keys = for_key & t->strings;
    uint64_t opened = follow(t, t->open | *keys, &c->opened);
    uint64_t due = follow(t, (t->comma & ~in_object) | t->colon | *keys, &c->due);
    uint64_t either = opened ^ due;
    error |= t->strings & ~(for_key | either);
    error |= (t->open | t->scalars) & ~(either & ~for_key);
    error |= t->close & (due | (for_key & ~opened));
    error |= t->comma & (for_key | opened | due);
    error |= t->colon ^ (opened & due & t->all);
    return error;
}

/* ---- a block ---- */

JSON_INLINE void watch_match(struct json_watch *watch, const struct json_match *match) {
    watch->awake = json_match_is_awake(match) || match->capture != JSON_CAPTURE_NONE;
    watch->wake = match->wake;
    watch->lowest = match->wake < JSON_DEPTH_MAX ? match->wake + 1 : 1;
}

/* n bytes at p of the span, which `b` holds, padded with blanks. Returns the errors; *found: the scan may stop. */
JSON_INLINE uint64_t scan_block(struct json_scan *scan, struct json_carry *c,
                                struct json_watch *watch, struct json_block b, const char *span,
                                const char *p, unsigned n, bool *found) {
    const uint64_t valid = low_bits(n);
    uint64_t quote = block_eq(b, '"'), backslash = block_eq(b, '\\'), error = 0;
    if (backslash | watch->escapes) {
        uint64_t escaped = find_escaped(c, backslash, n);
        /* Most escapes that there are in text. Without a branch, as it is by chance which block has one. */
        uint64_t usual = quote | backslash | block_eq(b, 'n');
        watch->escapes = 1;
        quote &= ~escaped;
        if ((escaped & ~usual) | c->pairs)
            error |= check_escapes(c, b, escaped, usual, backslash, n);
    }
    uint64_t in_string = block_parity(quote) ^ c->in_string;
    c->in_string = 0 - (uint64_t)last_of(in_string, n);
    if (!block_is_plain(b) | (c->continuations != 0)) {
        error |= block_controls(b) & in_string;
        if (block_has_high(b) | c->continuations)
            error |= check_utf8(c, b, n);
    }
    error &= valid;
    uint64_t outside = (~in_string | quote) & valid;
    if (!outside) /* the inside of a long string, as most of a large document */
        return error;

    struct json_block folded = block_fold(b);
    struct json_tokens t = {
        .open = block_eq(folded, '{') & ~in_string,
        .close = block_eq(folded, '}') & ~in_string,
        .comma = block_eq(b, ',') & ~in_string,
        .colon = block_eq(b, ':') & ~in_string,
        .strings = quote & in_string,
    };
    uint64_t marks = t.open | t.close | t.comma | t.colon, keys, woke = 0;
    uint64_t scalar = ~(marks | block_blanks(b) | in_string | quote);
    t.scalars = scalar & ~after(scalar, c->scalar);
    t.all = marks | t.strings | t.scalars;
    if (scalar | c->scalar)
        error |= check_scalars(c, b, p, scalar, t.scalars, n) & valid;
    c->scalar = last_of(scalar, n);
    error |= check_tokens(scan->kinds + JSON_BLOCK, c, &t, p, watch, &keys, &woke) & valid;
    if (watch->awake || woke) {
        struct json_view view = {.span = span,
                                 .at = (size_t)(p - span),
                                 .count = n,
                                 .from = woke ? (unsigned)__builtin_ctzll(woke) + 1 : 0,
                                 .good = error ? (error & -error) - 1 : valid,
                                 .open = t.open,
                                 .close = t.close,
                                 .strings = t.strings,
                                 .keys = keys,
                                 .scalars = t.scalars,
                                 .string_ends = quote & ~in_string,
                                 .scalar_bytes = scalar};
        *found = json_match_block(scan, &view);
        watch_match(watch, &scan->match);
    }
    return error;
}

JSON_INLINE enum json_verdict scan_span(struct json_scan *scan, const char *p, size_t len) {
    struct json_carry c = scan->carry; /* a copy, which nothing that is written can be part of */
    struct json_watch watch = {.escapes = c.escaped | c.pairs};
    const char *start = p, *end = p + len;
    uint64_t error = 0;
    bool found = false;
    watch_match(&watch, &scan->match);
    for (; end - p >= JSON_BLOCK && !error && !found; p += JSON_BLOCK)
        error = scan_block(scan, &c, &watch, block_load(p), start, p, JSON_BLOCK, &found);
    if (!error && !found && p < end) {
        char padded[JSON_BLOCK];
        memset(padded, ' ', sizeof padded);
        memcpy(padded, p, (size_t)(end - p));
        error =
            scan_block(scan, &c, &watch, block_load(padded), start, p, (unsigned)(end - p), &found);
        p += JSON_BLOCK;
    }
    scan->carry = c;
    if (found) { /* before the error, if there is one */
        scan->verdict = JSON_FOUND;
    } else if (error) {
        scan->verdict = JSON_BAD;
        p += __builtin_ctzll(error) - JSON_BLOCK;
    }
    scan->offset += (uint64_t)((p < end ? p : end) - start);
    return scan->verdict;
}
