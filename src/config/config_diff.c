/* config_diff: resources are matched by name. Two with the same name are made text without what is equal at both ends of
 * their lists, so that of 10,000 routes only those that changed are; then the lines are compared by the longest common
 * subsequence, after what is equal in front and behind was put aside. Where what remains is too large for that, it is
 * only counted: a table of 10,000 new routes is not to be read line by line. */
#include "config/config_diff.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema.h"
#include "config/tls_config.h"

enum {
    INDENT = 2,
    TABLE_MAX = 1 << 20, /* cells of the table of common subsequences */
    LINES_MAX = 60,      /* shown of one resource */
};

struct lines {
    char *text; /* owned, cut at its ends of lines */
    const char **at;
    size_t count;
};

static void lines_fini(struct lines *lines) {
    free(lines->text);
    free(lines->at);
}

/* Takes text over, which may be NULL. False: memory is short. */
static bool cut(char *text, struct lines *out) {
    size_t count = 1;
    *out = (struct lines){.text = text};
    for (const char *c = text; c && *c; c++)
        count += *c == '\n';
    out->at = text ? calloc(count, sizeof *out->at) : NULL;
    for (char *line, *rest = text; out->at && (line = strsep(&rest, "\n"));)
        if (*line)
            out->at[out->count++] = line;
    return out->at != NULL;
}

struct shown {
    FILE *out;
    size_t count, left_out;
};

static void show(struct shown *shown, char sign, const char *line) {
    if (shown->count++ < LINES_MAX)
        fprintf(shown->out, "  %c %s\n", sign, line);
    else
        shown->left_out++;
}

/* The part of both that differs: a[from, a_to) and b[from, b_to). */
static void show_lines(struct shown *shown, const struct lines *a, const struct lines *b,
                       size_t from, size_t a_to, size_t b_to) {
    size_t n = a_to - from, m = b_to - from;
    uint16_t *table =
        (n + 1) * (m + 1) <= TABLE_MAX ? calloc((n + 1) * (m + 1), sizeof *table) : NULL;
    if (!table) {
        fprintf(shown->out, "  - %zu lines\n  + %zu lines\n", n, m);
        return;
    }
    for (size_t i = n; i-- > 0;)
        for (size_t k = m; k-- > 0;) {
            uint16_t *cell = &table[i * (m + 1) + k];
            uint16_t down = cell[m + 1], right = cell[1];
            *cell = strcmp(a->at[from + i], b->at[from + k]) == 0 ? (uint16_t)(cell[m + 2] + 1)
                    : down > right                                ? down
                                                                  : right;
        }
    for (size_t i = 0, k = 0; i < n || k < m;) {
        const uint16_t *cell = &table[i * (m + 1) + k];
        if (i < n && k < m && strcmp(a->at[from + i], b->at[from + k]) == 0) {
            i++;
            k++;
        } else if (k == m || (i < n && cell[m + 1] >= cell[1])) {
            show(shown, '-', a->at[from + i++]);
        } else {
            show(shown, '+', b->at[from + k++]);
        }
    }
    free(table);
}

static void show_differences(FILE *out, const struct lines *a, const struct lines *b) {
    struct shown shown = {.out = out};
    size_t from = 0, a_to = a->count, b_to = b->count;
    while (from < a_to && from < b_to && strcmp(a->at[from], b->at[from]) == 0)
        from++;
    while (a_to > from && b_to > from && strcmp(a->at[a_to - 1], b->at[b_to - 1]) == 0) {
        a_to--;
        b_to--;
    }
    show_lines(&shown, a, b, from, a_to, b_to);
    if (shown.left_out)
        fprintf(out, "  and %zu more lines\n", shown.left_out);
}

/* ---- resources ---- */

enum { SECRETS = RESOURCE_TYPES, KINDS };

static const char *kind_name(unsigned kind) {
    return kind == SECRETS ? "secret" : resource_type_name(kind);
}

struct item {
    struct span name;
    const void *message;
    uint64_t edition; /* of a secret: 0 */
};

/* All of one kind, sorted by name. */
struct items {
    struct item *at; /* owned */
    size_t count;
};

static int compare_names(const void *a, const void *b) {
    const struct item *left = a, *right = b;
    return span_compare(left->name, right->name);
}

/* False: memory is short. */
static bool items_of(const struct resources *from, unsigned kind, struct items *out) {
    static const struct cfg_static_resources nothing;
    const struct cfg_static_resources *fixed = config_bootstrap(from->bootstrap)->static_resources;
    if (!fixed)
        fixed = &nothing;
    out->count = kind == SECRETS ? fixed->secrets_count : from->of[kind].count;
    out->at = calloc(out->count + 1, sizeof *out->at);
    for (size_t i = 0; out->at && i < out->count; i++) {
        if (kind == SECRETS) {
            out->at[i] = (struct item){fixed->secrets[i].name, &fixed->secrets[i], 0};
        } else {
            const struct resource *resource = from->of[kind].by_name[i];
            out->at[i] = (struct item){resource->name, resource->message, resource->edition};
        }
    }
    if (out->at && kind == SECRETS)
        qsort(out->at, out->count, sizeof *out->at, compare_names);
    return out->at != NULL;
}

struct diff {
    FILE *text;
    unsigned kind;
    size_t added, removed, changed;
};

static void show_name(const struct diff *diff, char sign, const struct item *item) {
    fprintf(diff->text, "%c %s '%.*s'\n", sign, kind_name(diff->kind), (int)item->name.len,
            item->name.ptr);
}

/* Two with the same name. False: memory is short. */
static bool compare(struct diff *diff, const struct item *before, const struct item *after) {
    const struct cfg_schema *schema =
        diff->kind == SECRETS ? &cfg_schema_secret : resource_schema(diff->kind);
    if (diff->kind == SECRETS ? cfg_is_same(schema, before->message, after->message)
                              : before->edition == after->edition)
        return true;
    const void *const messages[2] = {before->message, after->message};
    char *texts[2];
    struct lines a, b;
    cfg_to_json_of_differences(schema, messages, INDENT, texts);
    bool ok = cut(texts[0], &a);
    ok = cut(texts[1], &b) && ok;
    if (ok) {
        show_name(diff, '~', after);
        show_differences(diff->text, &a, &b);
        diff->changed++;
    }
    lines_fini(&a);
    lines_fini(&b);
    return ok;
}

/* False: memory is short. */
static bool diff_items(struct diff *diff, const struct items *before, const struct items *after) {
    bool ok = true;
    for (size_t i = 0, k = 0; ok && (i < before->count || k < after->count);) {
        int order = i == before->count  ? 1
                    : k == after->count ? -1
                                        : compare_names(&before->at[i], &after->at[k]);
        if (order == 0) {
            ok = compare(diff, &before->at[i++], &after->at[k++]);
        } else if (order < 0) {
            show_name(diff, '-', &before->at[i++]);
            diff->removed++;
        } else {
            show_name(diff, '+', &after->at[k++]);
            diff->added++;
        }
    }
    return ok;
}

static int diff_kind(FILE *summary, FILE *text, unsigned kind, const struct resources *before,
                     const struct resources *after) {
    struct diff diff = {.text = text, .kind = kind};
    struct items old = {0}, new = {0};
    bool ok = items_of(before, kind, &old) && items_of(after, kind, &new) &&
              diff_items(&diff, &old, &new);
    free(old.at);
    free(new.at);
    if (diff.added || diff.removed || diff.changed)
        fprintf(summary, "%s%ss: %zu added, %zu changed, %zu removed", ftell(summary) ? "; " : "",
                kind_name(kind), diff.added, diff.changed, diff.removed);
    return ok ? 0 : -ENOMEM;
}

int config_diff_make(const struct resources *before, const struct resources *after,
                     struct config_diff *out) {
    size_t summary_size, text_size;
    *out = (struct config_diff){0};
    FILE *summary = open_memstream(&out->summary, &summary_size);
    FILE *text = open_memstream(&out->text, &text_size);
    int rc = summary && text ? 0 : -ENOMEM;
    for (unsigned kind = 0; rc == 0 && kind < KINDS; kind++)
        rc = diff_kind(summary, text, kind, before, after);
    if (rc == 0 && ftell(summary) == 0)
        fputs("nothing changed", summary);
    if ((summary && fclose(summary) != 0) || (text && fclose(text) != 0))
        rc = -ENOMEM;
    if (rc != 0)
        config_diff_fini(out);
    return rc;
}

void config_diff_fini(struct config_diff *diff) {
    free(diff->summary);
    free(diff->text);
    *diff = (struct config_diff){0};
}
