/* format_time: the times of START_TIME and EMIT_TIME. A format is cut into pieces when it is compiled:
 * what strftime understands, and what it lacks (fractions, the epoch).
 *
 *   %f %1f..%9f     digits of the fraction (%f: 9)           %s    seconds since 1970
 *   %E3S %E*S       seconds with a fraction                  %E3f  a fraction
 *   %Ez %E*z        "+00:00" and "+00:00:00"                 %E4Y  the year */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "proxy/format_internal.h"

enum { PIECE_MAX = 1024 }; /* what one strftime may print, as on Envoy */

/* ---- compiling ---- */

/* "%n" with strftime's flags, width and modifier prints a newline, which may not go into a header.
 * As on Envoy "%%n" is taken for one. */
static bool prints_newline(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '%')
            continue;
        size_t k = i + 1;
        while (k < text.len && strchr("-_0^#", text.ptr[k]) && text.ptr[k])
            k++;
        while (k < text.len && text.ptr[k] >= '1' && text.ptr[k] <= '9')
            k++;
        if (k < text.len && (text.ptr[k] == 'E' || text.ptr[k] == 'O'))
            k++;
        if (k < text.len && text.ptr[k] == 'n')
            return true;
    }
    return false;
}

static bool add_piece(struct time_format *out, struct time_piece piece) {
    struct time_piece *grown = realloc(out->pieces, (out->count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    out->pieces = grown;
    grown[out->count++] = piece;
    return true;
}

static bool add_text(struct time_format *out, const char *ptr, size_t len) {
    if (len == 0)
        return true;
    char *text = strndup(ptr, len);
    if (text && add_piece(out, (struct time_piece){.kind = TIME_STRFTIME, .text = text}))
        return true;
    free(text);
    return false;
}

/* Length of a specifier of ours at the "%" text.ptr[i], and its piece; 0 when it is strftime's. */
static size_t own_specifier(struct span text, size_t i, struct time_piece *piece) {
    char c = i + 1 < text.len ? text.ptr[i + 1] : '\0';
    char d = i + 2 < text.len ? text.ptr[i + 2] : '\0';
    char e = i + 3 < text.len ? text.ptr[i + 3] : '\0';
    *piece = (struct time_piece){0};
    if (c == 's') {
        piece->kind = TIME_EPOCH;
        return 2;
    }
    if (c == 'f') {
        *piece = (struct time_piece){.kind = TIME_FRACTION, .digits = 9};
        return 2;
    }
    if (c >= '1' && c <= '9' && d == 'f') {
        *piece = (struct time_piece){.kind = TIME_FRACTION, .digits = (unsigned)(c - '0')};
        return 3;
    }
    if (c != 'E')
        return 0;
    if (d == 'z' || (d == '*' && e == 'z')) {
        piece->kind = TIME_ZONE;
        piece->digits = d == 'z' ? 4 : 6;
        return d == 'z' ? 3 : 4;
    }
    if (d == '4' && e == 'Y') {
        piece->kind = TIME_YEAR;
        return 4;
    }
    if (((d >= '1' && d <= '9') || d == '*') && (e == 'S' || e == 'f')) {
        piece->kind = e == 'S' ? TIME_SECONDS : TIME_FRACTION;
        piece->digits = d == '*' ? 0 : (unsigned)(d - '0'); /* 0: as many as it takes */
        return 4;
    }
    return 0;
}

int time_format_compile(struct span text, bool local, struct time_format *out, const char **error) {
    *out = (struct time_format){.local = local};
    if (prints_newline(text)) {
        *error = "Invalid header configuration. Format string contains newline.";
        return -EINVAL;
    }
    size_t start = 0;
    for (size_t i = 0; i < text.len;) {
        if (text.ptr[i] != '%') {
            i++;
            continue;
        }
        struct time_piece piece;
        size_t length = own_specifier(text, i, &piece);
        if (length == 0) {
            i += 2; /* strftime's own, "%%" among them */
            continue;
        }
        if (!add_text(out, text.ptr + start, i - start) || !add_piece(out, piece))
            goto no_memory;
        i += length;
        start = i;
    }
    if (start < text.len && !add_text(out, text.ptr + start, text.len - start))
        goto no_memory;
    return 0;

no_memory:
    time_format_fini(out);
    return -ENOMEM;
}

void time_format_fini(struct time_format *format) {
    for (size_t i = 0; i < format->count; i++)
        free(format->pieces[i].text);
    free(format->pieces);
    *format = (struct time_format){0};
}

/* ---- writing ---- */

static char *put_digits(char *at, unsigned number, unsigned digits) {
    for (unsigned i = digits; i > 0; i--) {
        at[i - 1] = (char)('0' + number % 10);
        number /= 10;
    }
    return at + digits;
}

/* Days since 1970 to a date, proleptic Gregorian: a year starts in March, so the leap day is last. */
static void date_of(int64_t days, unsigned *year, unsigned *month, unsigned *day) {
    days += 719468; /* from 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned of_era = (unsigned)(days - era * 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned m = (5 * of_year + 2) / 153;
    *day = of_year - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = (unsigned)(year_of_era + era * 400 + (*month <= 2));
}

static void floor_seconds(int64_t wall_ns, int64_t *seconds, unsigned *ns) {
    *seconds = wall_ns / NS_PER_S;
    int64_t rest = wall_ns % NS_PER_S;
    if (rest < 0) {
        rest += NS_PER_S;
        (*seconds)--;
    }
    *ns = (unsigned)rest;
}

/* "2026-01-31T12:00:00.123Z": in every line of the default log, so without strftime. */
static void put_iso(int64_t wall_ns, struct format_out *out) {
    int64_t seconds;
    unsigned ns, year, month, day;
    floor_seconds(wall_ns, &seconds, &ns);
    int64_t days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400;
    unsigned of_day = (unsigned)(seconds - days * 86400);
    date_of(days, &year, &month, &day);
    char buf[24];
    char *at = put_digits(buf, year, 4);
    *at++ = '-';
    at = put_digits(at, month, 2);
    *at++ = '-';
    at = put_digits(at, day, 2);
    *at++ = 'T';
    at = put_digits(at, of_day / 3600, 2);
    *at++ = ':';
    at = put_digits(at, of_day / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, of_day % 60, 2);
    *at++ = '.';
    at = put_digits(at, ns / 1000000, 3);
    *at = 'Z';
    format_out_put(out, span_make(buf, sizeof(buf)));
}

static void put_fraction(unsigned ns, unsigned digits, struct format_out *out) {
    char buf[9];
    (void)put_digits(buf, ns, 9);
    if (digits == 0) { /* without trailing zeroes */
        digits = 9;
        while (digits > 0 && buf[digits - 1] == '0')
            digits--;
    }
    format_out_put(out, span_make(buf, digits));
}

static void put_piece(const struct time_piece *piece, const struct tm *tm, int64_t seconds,
                      unsigned ns, struct format_out *out) {
    char buf[PIECE_MAX];
    int len = 0;
    switch (piece->kind) {
    case TIME_STRFTIME:
        /* The format comes from the config: strftime takes any, and bounds what it writes. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        len = (int)strftime(buf, sizeof(buf), piece->text, tm);
#pragma GCC diagnostic pop
        break;
    case TIME_FRACTION:
        put_fraction(ns, piece->digits, out);
        return;
    case TIME_SECONDS:
        len = snprintf(buf, sizeof(buf), "%02d", tm->tm_sec);
        if (piece->digits > 0 || ns > 0)
            buf[len++] = '.';
        format_out_put(out, span_make(buf, (size_t)len));
        put_fraction(ns, piece->digits, out);
        return;
    case TIME_EPOCH:
        len = snprintf(buf, sizeof(buf), "%lld", (long long)seconds);
        break;
    case TIME_YEAR:
        len = snprintf(buf, sizeof(buf), "%04d", tm->tm_year + 1900);
        break;
    case TIME_ZONE: {
        long offset = labs(tm->tm_gmtoff);
        len = snprintf(buf, sizeof(buf), "%c%02ld:%02ld:%02ld", tm->tm_gmtoff < 0 ? '-' : '+',
                       offset / 3600, offset / 60 % 60, offset % 60);
        if (piece->digits == 4)
            len -= 3;
        break;
    }
    }
    format_out_put(out, span_make(buf, (size_t)len));
}

void time_format_write(const struct time_format *format, int64_t wall_ns, struct format_out *out) {
    if (format->count == 0 && !format->local) {
        put_iso(wall_ns, out);
        return;
    }
    static char minutes[] = "%Y-%m-%dT%H:%M:";
    static char zone[] = "%z";
    static const struct time_piece local_iso[] = {
        {.kind = TIME_STRFTIME, .text = minutes},
        {.kind = TIME_SECONDS, .digits = 3},
        {.kind = TIME_STRFTIME, .text = zone},
    };
    int64_t seconds;
    unsigned ns;
    floor_seconds(wall_ns, &seconds, &ns);
    time_t time = (time_t)seconds;
    struct tm tm;
    if (format->local) {
        (void)localtime_r(&time, &tm);
    } else {
        (void)gmtime_r(&time, &tm);
        tm.tm_zone = "UTC"; /* glibc says GMT */
    }
    const struct time_piece *pieces = format->count > 0 ? format->pieces : local_iso;
    size_t count = format->count > 0 ? format->count : sizeof(local_iso) / sizeof(local_iso[0]);
    for (size_t i = 0; i < count; i++)
        put_piece(&pieces[i], &tm, seconds, ns, out);
}
