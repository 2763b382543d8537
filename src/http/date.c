#include "http/date.h"

#include "base/clock.h"

enum { DATE_LEN = 29, SECONDS_PER_DAY = 86400 };

static void put2(char *out, unsigned value) {
    out[0] = (char)('0' + value / 10);
    out[1] = (char)('0' + value % 10);
}

/* Arithmetic and not gmtime_r: strftime would bring the locale's names and a lock on the zone. */
static void render(char *out, int64_t second) {
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t day = second / SECONDS_PER_DAY;
    unsigned of_day = (unsigned)(second % SECONDS_PER_DAY);

    /* Civil date from the day number, with years that begin in March (H. Hinnant's derivation). */
    unsigned shifted = (unsigned)(day + 719468);
    unsigned era = shifted / 146097, of_era = shifted % 146097;
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march_month = (5 * of_year + 2) / 153;
    unsigned month_day = of_year - (153 * march_month + 2) / 5 + 1;
    unsigned month = march_month < 10 ? march_month + 2 : march_month - 10; /* 0 is January */
    unsigned year = year_of_era + era * 400 + (month <= 1);

    memcpy(out, "Xxx, 00 Xxx 0000 00:00:00 GMT", DATE_LEN + 1);
    memcpy(out, days + day % 7 * 3, 3);
    put2(out + 5, month_day);
    memcpy(out + 8, months + month * 3, 3);
    put2(out + 12, year / 100);
    put2(out + 14, year % 100);
    put2(out + 17, of_day / 3600);
    put2(out + 20, of_day / 60 % 60);
    put2(out + 23, of_day % 60);
}

struct span http_date_get(struct http_date *date, int64_t wall_ns) {
    int64_t second = wall_ns < 0 ? 0 : wall_ns / NS_PER_S;
    if (second != date->second || date->text[0] == '\0') {
        date->second = second;
        render(date->text, second);
    }
    return span_make(date->text, DATE_LEN);
}
