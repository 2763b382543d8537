/* Documents of three kinds, good, bad, and such that parsers disagree on: each whole, cut in two at every byte, byte by byte and
 * moved over the borders of blocks, by every kernel that the machine has, and all must tell what the reference tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "json_describe.h"

static struct json_paths *make(const struct span *texts, uint32_t count) {
    const char *problem;
    uint32_t bad;
    struct json_paths *paths = json_paths_new(texts, count, &problem, &bad);
    if (!paths)
        fail_msg("%.*s: %s", (int)texts[bad].len, texts[bad].ptr, problem);
    return paths;
}

static struct json_paths *usual_paths(void) {
    static const struct span texts[] = {
        SPAN_INIT("a"),      SPAN_INIT("[0]"),
        SPAN_INIT("a.b"),    SPAN_INIT("m[*].r"),
        SPAN_INIT("[*]"),    SPAN_INIT("[1][*]"),
        SPAN_INIT("m[1].r"), SPAN_INIT("[\"\\u0061\\n\"]"),
        SPAN_INIT("[\"\"]"),
    };
    return make(texts, sizeof texts / sizeof *texts);
}

static void same(const char *what, const struct json_kernel *kernel, struct span input,
                 size_t first, size_t step, const char *expected, const char *got) {
    if (strcmp(expected, got) != 0)
        fail_msg("%s, first %zu, then %zu bytes, of %.*s\n  expected %s\n  %-8s %s", what, first,
                 step, (int)input.len, input.ptr, expected, kernel->name, got);
}

static struct json_story reference, story;

static void check_cut(struct json_paths *paths, struct span input, size_t first, size_t step) {
    for (int stop = 0; stop < 2; stop++) {
        (void)describe_reference(&reference, paths, input, stop);
        for (const struct json_kernel *const *k = json_kernels(); *k; k++)
            same(stop ? "stopping" : "to the end", *k, input, first, step, reference.text,
                 describe_scan(&story, *k, paths, input, first, step, stop));
    }
}

static void check(struct json_paths *paths, struct span input) {
    char moved[512];
    check_cut(paths, input, input.len ? input.len : 1, 1);
    check_cut(paths, input, 1, 1);
    for (size_t cut = 1; cut < input.len; cut++)
        check_cut(paths, input, cut, input.len);
    if (input.len > 128)
        return;
    memset(moved, ' ', sizeof moved);
    for (size_t by = 1; by <= 64; by += input.len > 64 ? 7 : 1) {
        memcpy(moved + by, input.ptr, input.len);
        check_cut(paths, span_make(moved, by + input.len), by + input.len, 1);
        check_cut(paths, span_make(moved, by + input.len + 64), by + input.len + 64, 1);
        memset(moved, ' ', sizeof moved);
    }
}

enum expected { GOOD, BAD };

static void check_rows(const struct span *rows, size_t count, enum expected expected) {
    struct json_paths *paths = usual_paths();
    for (size_t i = 0; i < count; i++) {
        (void)describe_reference(&reference, paths, rows[i], false);
        bool bad = strstr(reference.text, "BAD") != NULL;
        if (bad != (expected == BAD))
            fail_msg("%.*s: %s", (int)rows[i].len, rows[i].ptr, reference.text);
        check(paths, rows[i]);
    }
    json_paths_free(paths);
}
#define CHECK_ROWS(rows, expected) check_rows(rows, sizeof rows / sizeof *rows, expected)
#define T(text) SPAN_INIT(text)

static void documents(void **state) {
    static const struct span rows[] = {
        T("[]"),
        T("{}"),
        T("[[]]"),
        T("[{}]"),
        T("{\"a\":[]}"),
        T("[ ]"),
        T("\t{\r\n} "),
        T("0"),
        T("-0"),
        T("\"\""),
        T("null"),
        T("true"),
        T("false"),
        T(" 12 "),
        T("[1,2,3]"),
        T("{\"a\":1,\"a\":{\"b\":2},\"c\":{\"a\":3}}"),
        T("{\"a\":{\"b\":\"x\"},\"a\":{\"b\":\"y\"}}"),
        T("{\"m\":[{\"r\":\"user\"},{\"r\":\"tool\"},{},[],{\"r\":{}},{\"q\":1}]}"),
        T("{\"m\":{\"r\":1},\"m\":[[{\"r\":1}],{\"r\":2}]}"),
        T("[[1,2],[3,[4],5],[6]]"),
        T("[true,false,null,\"x\"]"),
        T("{\"\":0,\"a\\n\":1,\"a\":\"\"}"),
        T("[{\"a\":1},{\"a\":[1]},\"a\",{\"b\":{\"a\":1}}]"),
        T("{\"very long key that nobody asks for\":[1,{\"a\":[]}],\"a\":{\"c\":0,\"b\":[null]}}"),
        T("{\"\\u0061\":\"by escape\",\"m\":[{\"\\u0072\":1}]}"),
        T("[ 1 , \"2\" , { } ]"),
    };
    CHECK_ROWS(rows, GOOD);
}

static void numbers(void **state) {
    static const struct span good[] = {
        T("[0]"),
        T("[-0]"),
        T("[10]"),
        T("[-1]"),
        T("[0.5]"),
        T("[1.0e5]"),
        T("[1E+2]"),
        T("[1e-02]"),
        T("[-0.0e-0]"),
        T("[123456789012345678901234567890.123456789012345678901234567890e100]"),
        T("[0e0]"),
        T("[1,2.5,-3,4e4]"),
        T("[100000000000000000000]"),
        T("[1.5,1.5]"),
        T("{\"a\":1}"),
        T("[1 ]"),
        T("[1\n]"),
        T("[0,10,100]"),
        T("[-10.25E+10,-0]"),
    };
    static const struct span bad[] = {
        T("[01]"),
        T("[-01]"),
        T("[00]"),
        T("[1.]"),
        T("[.5]"),
        T("[1.e5]"),
        T("[1e]"),
        T("[1e+]"),
        T("[+1]"),
        T("[-]"),
        T("[--1]"),
        T("[1-2]"),
        T("[1+2]"),
        T("[1.2.3]"),
        T("[1e5e5]"),
        T("[1e5.5]"),
        T("[0x10]"),
        T("[1_000]"),
        T("[Infinity]"),
        T("[NaN]"),
        T("[-Infinity]"),
        T("[1e5-]"),
        T("[1.5-]"),
        T("[- 1]"),
        T("[1 2]"),
        T("[1a]"),
        T("[1e+-5]"),
        T("[-.5]"),
        T("[-e5]"),
        T("[1.-5]"),
        T("[0.e1]"),
        T("[\xd9\xa1]"),
        T("1."),
        T("-"),
        T("1e"),
        T("1e-"),
        T("[12345.67890.1]"),
        T("[1234567890e1234567890e1]"),
        T("[00000000]"),
        T("[1]2"),
        T("[1,02]"),
        T("[1e05.1]"),
        T("[1\"a\"]"),
    };
    CHECK_ROWS(good, GOOD);
    CHECK_ROWS(bad, BAD);
}

static void structure(void **state) {
    static const struct span bad[] = {
        T(""),
        T(" "),
        T("["),
        T("]"),
        T("{"),
        T("}"),
        T("[}"),
        T("{]"),
        T("[1"),
        T("[1,"),
        T("[1,]"),
        T("[,1]"),
        T("[,]"),
        T("[1,,2]"),
        T("[1 2]"),
        T("[1:2]"),
        T("[\"a\":1]"),
        T("{,}"),
        T("{\"a\"}"),
        T("{\"a\":}"),
        T("{\"a\":1,}"),
        T("{\"a\":1,,}"),
        T("{\"a\" 1}"),
        T("{\"a\"::1}"),
        T("{\"a\":1:2}"),
        T("{a:1}"),
        T("{1:1}"),
        T("{\"a\",1}"),
        T("{\"a\":1 \"b\":2}"),
        T("{[]:1}"),
        T("{{}}"),
        T("{\"a\":1}}"),
        T("[]]"),
        T("[][]"),
        T("{}{}"),
        T("1 2"),
        T("1,"),
        T(",1"),
        T(":"),
        T(","),
        T("\"a\":1"),
        T("\"a\",\"b\""),
        T("[1]x"),
        T("x[1]"),
        T("[\"a\"\"b\"]"),
        T("[\"a\"1]"),
        T("[[1]"),
        T("{\"a\":[1}"),
        T("[{\"a\":1]}"),
        T("{\"a\":{\"b\":1}"),
        T("// x\n[]"),
        T("[1]/**/"),
        T("['a']"),
        T("{'a':1}"),
        T("[1;2]"),
        T("[(1)]"),
        T("{\"a\":1],\"a\":2"),
        T("[{},]"),
        T("[[],]"),
        T("{\"a\":true,\"b\"}"),
        T("{\"a\":\"b\":\"c\"}"),
        T("{null:1}"),
        T("[1]\0"),
        T("\0[1]"),
        T("\xef\xbb\xbf[1]"),
        T("[\f1]"),
        T("[\v1]"),
        T("[\xc2\xa0"
          "1]"),
        T("[1,\b2]"),
        T("{\"a\":1,2}"),
        T("[1,{\"a\":1},\"b\":2]"),
        T("{\"a\":[1,2],3}"),
        T("{} ,"),
        T("[] :"),
        T("\"\" \"\""),
    };
    CHECK_ROWS(bad, BAD);
}

static void literals(void **state) {
    static const struct span bad[] = {
        T("tru"),
        T("truee"),
        T("[nul]"),
        T("[nulll]"),
        T("[True]"),
        T("[fals e]"),
        T("[falsee]"),
        T("[f]"),
        T("[n]"),
        T("[true1]"),
        T("[1true]"),
        T("[nullnull]"),
        T("[true false]"),
        T("[undefined]"),
        T("{true:1}"),
        T("[tRUE]"),
        T("[null\"\"]"),
        T("t"),
        T("[trul]"),
        T("[\xc3\xa9]"),
        T("[\xff]"),
        T("[-true]"),
        T("[truefalse,null]"),
        T("[\\]"),
        T("[\\u0031]"),
        T("\\\"\""),
    };
    CHECK_ROWS(bad, BAD);
}

static void strings(void **state) {
    static const struct span good[] = {
        T("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"),
        T("[\"\\u0000\\u001f\\u0041\\u00e9\\u20ac\"]"),
        T("[\"\\ud83d\\ude00\"]"),
        T("[\"\\uD83D\\uDE00 \\uDBFF\\uDFFF\\uD800\\uDC00\"]"),
        T("[\"\\\\\"]"),
        T("[\"\\\\\\\"\"]"),
        T("[\"\\\\\\\\u\"]"),
        T("[\"\\\\u12\"]"),
        T("[\"[{,:}]\"]"),
        T("[\"\x7f\"]"),
        T("[\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"]"),
        T("[\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"]"),
        T("[\"\xe4\xb8\xad\xe6\x96\x87\",\"\xf0\x9f\x98\x80\"]"),
        T("[\"\\uffff\\ufffe\\ud7ff\\ue000\"]"),
        T("{\"\\u0061\\u000a\":\"\\u0061\"}"),
        T("[\"exactly twenty-four byte\",\"exactly twenty-five bytes\",\"\\u0065xactly twenty-five "
          "byte\"]"),
        T("[\"exactly twenty-four\\u0020byte\",\"\\ud83d\\ude00ly twenty-four byt\"]"),
        T("[\"a long text without anything to look at, which goes on over the end of a block or "
          "two, or even three "
          "of them, and then it ends\",1]"),
        T("[\"a long text and \\\"escapes\\\", a line\\nand a tab\\t which go on over the end of a "
          "block or so\",1]"),
    };
    static const struct span bad[] = {
        T("\""),
        T("[\"]"),
        T("[\"a]"),
        T("[\"\\\"]"),
        T("[\"\\x\"]"),
        T("[\"\\u\"]"),
        T("[\"\\u1\"]"),
        T("[\"\\u12\"]"),
        T("[\"\\u123\"]"),
        T("[\"\\u123g\"]"),
        T("[\"\\U0041\"]"),
        T("[\"\\a\"]"),
        T("[\"\\'\"]"),
        T("[\"\\0\"]"),
        T("[\"\\\xc3\xa9\"]"),
        T("[\"\n\"]"),
        T("[\"\t\"]"),
        T("[\"\0\"]"),
        T("[\"\x1f\"]"),
        T("[\"\\\n\"]"),
        T("[\"\xff\"]"),
        T("[\"\xc0\x80\"]"),
        T("[\"\xc1\xbf\"]"),
        T("[\"\xe0\x80\x80\"]"),
        T("[\"\xe0\x9f\xbf\"]"),
        T("[\"\xed\xa0\x80\"]"),
        T("[\"\xed\xbf\xbf\"]"),
        T("[\"\xf0\x80\x80\x80\"]"),
        T("[\"\xf0\x8f\xbf\xbf\"]"),
        T("[\"\xf4\x90\x80\x80\"]"),
        T("[\"\xf5\x80\x80\x80\"]"),
        T("[\"\xfe\"]"),
        T("[\"\x80\"]"),
        T("[\"\xc3\"]"),
        T("[\"\xe4\xb8\"]"),
        T("[\"\xf0\x9f\x98\"]"),
        T("[\"\xe4\xb8"
          "a\"]"),
        T("[\"\xc3\xc3\xa9\"]"),
        T("[\"\xc3\xa9\xa9\"]"),
        T("[\"\xe4\xb8\xad\xad\"]"),
        T("[\"\xf0\x9f\x98\x80\x80\"]"),
        T("\"abc"),
        T("\"\\"),
        T("\"\\u00"),
        T("\"\xe4\xb8"),
        T("\xe4\xb8\xad"),
        T("[\"\\u00\xc3\xa9\"]"),
        T("[\"\\u 041\"]"),
        T("[\"\\u+041\"]"),
    };
    CHECK_ROWS(good, GOOD);
    CHECK_ROWS(bad, BAD);
}

/* The grammar of RFC 8259 has room for a half of a pair, but no text in UTF-8 can say it: who takes it must make
 * something up, and everybody makes up something else. */
static void half_a_pair_is_no_text(void **state) {
    static const struct span bad[] = {
        T("[\"\\ud800\"]"),          T("[\"\\udc00\"]"),
        T("[\"\\ud83d\\u0041\"]"),   T("[\"\\ud83d\\ud83d\\ude00\"]"),
        T("[\"\\ud83d \\ude00\"]"),  T("[\"\\ud83dude00\"]"),
        T("[\"\\ude00\\ud83d\"]"),   T("[\"\\ud83d\\n\"]"),
        T("[\"\\ud83d\\\\ude00\"]"), T("[\"\\udbff\\udbff\"]"),
        T("{\"\\udfff\":1}"),        T("[\"\\ud83d\\ude0\"]"),
        T("[\"\\ud83d\\udg00\"]"),   T("[\"\\ud83d\\ue000\"]"),
    };
    CHECK_ROWS(bad, BAD);
}

static void escapes_at_the_end_of_every_block(void **state) {
    struct json_paths *paths = usual_paths();
    static const char *tails[] = {
        "\\\\",    "\\\"",          "\\\\\\\"",     "\\u00e9",          "\\ud83d\\ude00",
        "\\ud83d", "\\u00g0",       "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\xf0\x9f\x98",
        "\\",      "\",12.5e-3,\"", "\",true,\"",   "\",nul,\"",        "\",-0.5,\"",
        "\",01,\""};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        for (size_t pad = 50; pad < 66; pad++) {
            char text[160];
            int len = snprintf(text, sizeof text, "[\"%0*d%s\",\"z\"]", (int)pad, 7, tails[i]);
            struct span input = span_make(text, (size_t)len);
            check_cut(paths, input, input.len, 1);
            for (size_t cut = 58; cut < 72; cut++)
                check_cut(paths, input, cut, 3);
        }
    json_paths_free(paths);
}

static void depth_has_a_limit(void **state) {
    struct json_paths *paths = usual_paths();
    char text[2 * JSON_DEPTH_MAX + 8];
    for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct span input = span_make(text, 2 * depth);
        (void)describe_reference(&reference, paths, input, false);
        assert_int_equal(strstr(reference.text, "BAD 256") != NULL, depth > JSON_DEPTH_MAX);
        check_cut(paths, input, input.len, 1);
        check_cut(paths, input, 7, 7);
    }
    json_paths_free(paths);
}

/* What somebody waits for must not wait for anything else. */
static void a_value_is_told_with_its_last_byte(void **state) {
    static const struct span texts[] = {T("model"), T("n")};
    static const struct span document = T("{\"model\":\"gpt\",\"n\":1");
    struct json_paths *paths = make(texts, 2);
    for (const struct json_kernel *const *k = json_kernels(); *k; k++) {
        char text[DESCRIBE_TEXT];
        struct json_scan_options options = {
            .text = text, .text_size = sizeof text, .on_value = story_value, .arg = &story};
        struct json_scan scan;
        paths->kernel = *k;
        story.len = 0;
        story.text[0] = '\0';
        json_scan_init(&scan, paths, options);
        assert_int_equal(json_scan_feed(&scan, span_make(document.ptr, 13)), JSON_MORE);
        assert_string_equal(story.text, "");
        assert_int_equal(json_scan_feed(&scan, span_make(document.ptr + 13, 1)), JSON_MORE);
        assert_string_equal(story.text, "0=sgpt|");
        assert_false(json_scan_all_answered(&scan));
        assert_int_equal(json_scan_feed(&scan, span_make(document.ptr + 14, document.len - 14)),
                         JSON_MORE);
        assert_string_equal(story.text, "0=sgpt|"); /* it may become 10 */
        assert_int_equal(json_scan_feed(&scan, SPAN_LIT(",")), JSON_MORE);
        assert_string_equal(story.text, "0=sgpt|1=n1|");
        assert_true(json_scan_all_answered(&scan));
        assert_int_equal(json_scan_feed(&scan, SPAN_LIT("}")), JSON_BAD);
        assert_int_equal(json_scan_offset(&scan), document.len + 1);
        assert_int_equal(json_scan_feed(&scan, SPAN_LIT("[]")), JSON_BAD);
        assert_int_equal(json_scan_end(&scan), JSON_BAD);
    }
    json_paths_free(paths);
}

/* Whoever has what he wants of a wildcard says so; then nobody waits for the rest of the array. */
static void enough_of_a_wildcard(void **state) {
    static const struct span texts[] = {T("tools[*].name")};
    static const struct span document =
        T("{\"tools\":[{\"x\":1},{\"name\":\"a\"},{\"name\":\"b\"}],\"x\":nonsense");
    struct json_paths *paths = make(texts, 1);
    story.enough = 1;
    reference.enough = 1;
    check_cut(paths, document, document.len, 1);
    check(paths, document);
    assert_string_equal(describe_reference(&reference, paths, document, true), "0=sa|FOUND");
    story.enough = reference.enough = 0;
    json_paths_free(paths);
}

/* Documents by chance, half of them damaged by chance. */
static uint64_t chance_state = 1;
static unsigned chance(unsigned of) {
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (unsigned)(chance_state >> 20) % of;
}

struct draft {
    char text[4096];
    size_t len;
};

static void put(struct draft *d, const char *text) {
    size_t n = strlen(text);
    if (d->len + n < sizeof d->text) {
        memcpy(d->text + d->len, text, n);
        d->len += n;
    }
}

static void put_blanks(struct draft *d) {
    static const char *blanks[] = {"", "", "", "", " ", "\n  ", "\t", "\r\n"};
    put(d, blanks[chance(8)]);
}

static void put_value(struct draft *d, unsigned depth) {
    static const char *scalars[] = {"0",    "-12",   "3.25", "1e9",          "-0.5E-7",
                                    "true", "false", "null", "1234567890123"};
    static const char *texts[] = {"a",
                                  "",
                                  "user",
                                  "\\n",
                                  "\\u0061",
                                  "\xe4\xb8\xad",
                                  "\\ud83d\\ude00",
                                  "\\\\",
                                  "\\\"",
                                  "text that is longer than the buffer",
                                  "\xf0\x9f\x98\x80",
                                  "{[:,"};
    static const char *keys[] = {"a", "b", "m", "r", "", "a\\n", "\\u006d", "content", "\xc3\xa9"};
    unsigned what = chance(depth > 6 || d->len > 3000 ? 2 : 5), count = chance(6);
    put_blanks(d);
    if (what == 0) {
        put(d, scalars[chance(9)]);
    } else if (what == 1) {
        put(d, "\"");
        for (unsigned i = 0; i < count; i++)
            put(d, texts[chance(12)]);
        put(d, "\"");
    } else {
        put(d, what == 2 ? "[" : "{");
        for (unsigned i = 0; i < count; i++) {
            put(d, i ? "," : "");
            if (what != 2) {
                put_blanks(d);
                put(d, "\"");
                put(d, keys[chance(9)]);
                put(d, "\"");
                put_blanks(d);
                put(d, ":");
            }
            put_value(d, depth + 1);
        }
        put(d, what == 2 ? "]" : "}");
    }
    put_blanks(d);
}

static void by_chance(void **state) {
    static const char damage[] = "{}[]:,\"\\ \n0-.eEtnu\x80\xc3\xff\x01"
                                 "9";
    static struct draft d;
    struct json_paths *paths = usual_paths();
    for (unsigned round = 0; round < 200; round++) {
        d.len = 0;
        put_value(&d, 0);
        ASSERT(d.len > 0); /* the first piece has room */
        for (unsigned i = chance(4); i > 1; i--)
            d.text[chance((unsigned)d.len)] = damage[chance(sizeof damage - 1)];
        struct span input = span_make(d.text, d.len);
        check_cut(paths, input, input.len, 1);
        check_cut(paths, input, 1 + chance((unsigned)d.len), 1 + chance(200));
        check_cut(paths, input, 1, 1 + chance(3));
    }
    json_paths_free(paths);
}

/* Hardly anything but brackets, as many as can be in a block, up to the limit of the depth and beyond it, some of them wrong: what
 * is wrong is told at the same byte as by the reference, and nobody sleeps too long or wakes too early. */
static void brackets_by_chance(void **state) {
    static char text[1500], kinds[sizeof text];
    struct json_paths *paths = usual_paths();
    for (unsigned round = 0; round < 80; round++) {
        /* Up or down for a while, so that every depth is met at every place of a block. */
        size_t len = 1, depth = 0, room = 100 + chance(700);
        unsigned up = 5;
        bool value_due = true;
        text[0] = ' ';
        while (len < room && (depth || value_due)) {
            if (chance(40) == 0)
                up = 1 + chance(8);
            if (value_due && (depth < JSON_DEPTH_MAX || chance(9) == 0) && chance(9) < up + 1) {
                kinds[depth++] = text[len++] = chance(3) ? '[' : '{';
                if (text[len - 1] == '{') {
                    memcpy(text + len, "\"\":", 3);
                    len += 3;
                }
            } else if (value_due) {
                text[len++] = '0';
                value_due = false;
            } else if (chance(9) < up && depth) {
                text[len++] = ',';
                if (kinds[depth - 1] == '{') {
                    memcpy(text + len, "\"\":", 3);
                    len += 3;
                }
                value_due = true;
            } else {
                text[len++] = kinds[--depth] == '[' ? ']' : '}';
            }
        }
        if (value_due)
            text[len++] = '0';
        while (depth)
            text[len++] = kinds[--depth] == '[' ? ']' : '}';
        if (round % 2)
            text[chance((unsigned)len)] = "[]{},0\" "[chance(8)];
        struct span input = span_make(text, len);
        check_cut(paths, input, input.len, 1);
        check_cut(paths, input, 1 + chance((unsigned)len), 1 + chance(200));
    }
    json_paths_free(paths);
}

/* The first backslash of a document comes late, and in the first or the last byte of a block. */
static void a_late_escape(void **state) {
    struct json_paths *paths = usual_paths();
    char text[400];
    for (size_t at = 60; at < 70; at++)
        for (size_t code = 0; code < 4; code++) {
            size_t begin = 128 + at;
            memset(text, 'x', sizeof text);
            text[0] = '"';
            memcpy(text + begin, (const char *[]){"\\\"", "\\\\", "\\n", "\\x"}[code], 2);
            text[begin + 2] = '"';
            struct span input = span_make(text, begin + 3);
            check_cut(paths, input, input.len, 1);
            check_cut(paths, input, 128, 1);
        }
    json_paths_free(paths);
}

static void nothing_asked_is_checked_all_the_same(void **state) {
    struct json_paths *paths = make(NULL, 0);
    check(paths, SPAN_LIT("{\"a\":[1,2,{\"b\":null}]}"));
    check(paths, SPAN_LIT("{\"a\":[1,2,{\"b\":nul}]}"));
    json_paths_free(paths);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents),
        cmocka_unit_test(numbers),
        cmocka_unit_test(structure),
        cmocka_unit_test(literals),
        cmocka_unit_test(strings),
        cmocka_unit_test(half_a_pair_is_no_text),
        cmocka_unit_test(escapes_at_the_end_of_every_block),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(a_value_is_told_with_its_last_byte),
        cmocka_unit_test(enough_of_a_wildcard),
        cmocka_unit_test(by_chance),
        cmocka_unit_test(brackets_by_chance),
        cmocka_unit_test(a_late_escape),
        cmocka_unit_test(nothing_asked_is_checked_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
