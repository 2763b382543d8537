/* well_known_text: Timestamp and FieldMask in JSON. They occur only in payloads of extensions. */
#include "config/scalar.h"

static bool number(struct span text, size_t at, size_t digits, int *out) {
    int value = 0;
    for (size_t i = at; i < at + digits; i++) {
        if (i >= text.len || text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        value = value * 10 + (text.ptr[i] - '0');
    }
    *out = value;
    return true;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant's algorithm). */
static int64_t days_from_civil(int year, int month, int day) {
    int y = month <= 2 ? year - 1 : year;
    int era = (y >= 0 ? y : y - 399) / 400;
    int year_of_era = y - era * 400;
    int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (int64_t)era * 146097 + day_of_era - 719468;
}

bool cfg_parse_timestamp(struct span text, struct cfg_timestamp *out) {
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day, hour, minute, second;
    if (!number(text, 0, 4, &year) || !number(text, 5, 2, &month) || !number(text, 8, 2, &day) ||
        !number(text, 11, 2, &hour) || !number(text, 14, 2, &minute) ||
        !number(text, 17, 2, &second) || text.len < 20 || text.ptr[4] != '-' ||
        text.ptr[7] != '-' || text.ptr[10] != 'T' || text.ptr[13] != ':' || text.ptr[16] != ':')
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 1 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 ||
        day > month_days[month - 1] + (month == 2 && leap))
        return false;
    size_t i = 19;
    int32_t nanos = 0;
    if (text.ptr[i] == '.') {
        int digits = 0;
        for (i++; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++, digits++) {
            if (digits == 9)
                return false;
            nanos = nanos * 10 + (text.ptr[i] - '0');
        }
        if (digits == 0)
            return false;
        for (; digits < 9; digits++)
            nanos *= 10;
    }
    int64_t offset = 0;
    if (i + 1 == text.len && text.ptr[i] == 'Z') {
        offset = 0;
    } else if (i + 6 == text.len && (text.ptr[i] == '+' || text.ptr[i] == '-') &&
               text.ptr[i + 3] == ':') {
        int hours, minutes;
        if (!number(text, i + 1, 2, &hours) || !number(text, i + 4, 2, &minutes) || hours > 23 ||
            minutes > 59)
            return false;
        offset = (hours * 60 + minutes) * 60 * (text.ptr[i] == '-' ? -1 : 1);
    } else {
        return false;
    }
    int64_t seconds =
        days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    *out = (struct cfg_timestamp){.set = true, .seconds = seconds, .nanos = nanos};
    return true;
}

bool cfg_parse_field_mask(struct cfg_arena *arena, struct span text, struct cfg_field_mask *out) {
    *out = (struct cfg_field_mask){.set = true};
    if (text.len == 0)
        return true;
    size_t count = 1;
    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == ',';
    out->paths = cfg_alloc_array(arena, count, sizeof(*out->paths));
    size_t start = 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && text.ptr[i] == '_')
            return false; /* lowerCamelCase only */
        if (i < text.len && text.ptr[i] != ',')
            continue;
        if (i == start)
            return false;
        struct cfg_buf path = {.arena = arena};
        for (size_t k = start; k < i; k++) {
            char c = text.ptr[k];
            if (c >= 'A' && c <= 'Z')
                cfg_buf_byte(&path, '_');
            cfg_buf_byte(&path, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c);
        }
        out->paths[out->paths_count++] = cfg_copy(arena, cfg_buf_view(&path));
        start = i + 1;
    }
    return true;
}
