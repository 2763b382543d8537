/* config_diff: resources are matched by name; of two with the same name the lines are compared by the longest common
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

/* Takes text over. */
static int cut(char *text, struct lines *out) {
    size_t count = 1;
    *out = (struct lines){.text = text};
    for (const char *c = text; c && *c; c++)
        count += *c == '\n';
    out->at = text ? calloc(count, sizeof *out->at) : NULL;
    if (!out->at)
        return -ENOMEM;
    for (char *line, *rest = text; (line = strsep(&rest, "\n"));)
        if (*line)
            out->at[out->count++] = line;
    return 0;
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

struct kind {
    const char *name, *plural;
    const struct cfg_schema *schema;
    const struct resource *resources; /* else secrets */
    const struct cfg_secret *secrets;
    size_t count;
};

enum { KINDS = RESOURCE_TYPES + 1 };

static void kinds_of(const struct resources *from, struct kind out[KINDS]) {
    static const char *const plurals[] = {"listeners", "clusters", "route configurations"};
    const struct cfg_static_resources *fixed = config_bootstrap(from->bootstrap)->static_resources;
    for (unsigned i = 0; i < RESOURCE_TYPES; i++)
        out[i] = (struct kind){.name = resource_type_name((enum resource_type)i),
                               .plural = plurals[i],
                               .schema = resource_schema((enum resource_type)i),
                               .resources = from->of[i].items,
                               .count = from->of[i].count};
    out[RESOURCE_TYPES] = (struct kind){.name = "secret",
                                        .plural = "secrets",
                                        .schema = &cfg_schema_secret,
                                        .secrets = fixed ? fixed->secrets : NULL,
                                        .count = fixed ? fixed->secrets_count : 0};
}

static struct span name_of(const struct kind *kind, size_t i) {
    return kind->resources ? kind->resources[i].name : kind->secrets[i].name;
}

static const void *item(const struct kind *kind, size_t i) {
    return kind->resources ? kind->resources[i].message : &kind->secrets[i];
}

static const void *find(const struct kind *kind, struct span name) {
    for (size_t i = 0; i < kind->count; i++)
        if (span_eq(name_of(kind, i), name))
            return item(kind, i);
    return NULL;
}

/* 1: they differ; 0; -ENOMEM. Secrets differ without being shown. */
static int compare(FILE *out, const struct kind *kind, struct span name, const void *before,
                   const void *after) {
    if (cfg_is_same(kind->schema, before, after))
        return 0;
    struct lines a, b = {0};
    int rc = cut(cfg_to_json_without_secrets(kind->schema, before, INDENT), &a);
    if (rc == 0)
        rc = cut(cfg_to_json_without_secrets(kind->schema, after, INDENT), &b);
    if (rc == 0) {
        fprintf(out, "~ %s '%.*s'\n", kind->name, (int)name.len, name.ptr);
        show_differences(out, &a, &b);
    }
    lines_fini(&a);
    lines_fini(&b);
    return rc ? rc : 1;
}

static int diff_kind(FILE *summary, FILE *text, const struct kind *before,
                     const struct kind *after) {
    size_t added = 0, removed = 0, changed = 0;
    for (size_t i = 0; i < before->count; i++) {
        struct span name = name_of(before, i);
        if (find(after, name))
            continue;
        fprintf(text, "- %s '%.*s'\n", before->name, (int)name.len, name.ptr);
        removed++;
    }
    for (size_t i = 0; i < after->count; i++) {
        struct span name = name_of(after, i);
        const void *old = find(before, name);
        int rc = old ? compare(text, after, name, old, item(after, i)) : 0;
        if (rc < 0)
            return rc;
        changed += rc == 1;
        added += !old;
        if (!old)
            fprintf(text, "+ %s '%.*s'\n", after->name, (int)name.len, name.ptr);
    }
    if (added || removed || changed)
        fprintf(summary, "%s%s: %zu added, %zu changed, %zu removed", ftell(summary) ? "; " : "",
                after->plural, added, changed, removed);
    return 0;
}

int config_diff_make(const struct resources *before, const struct resources *after,
                     struct config_diff *out) {
    struct kind old[KINDS], new[KINDS];
    size_t summary_size, text_size;
    *out = (struct config_diff){0};
    FILE *summary = open_memstream(&out->summary, &summary_size);
    FILE *text = open_memstream(&out->text, &text_size);
    int rc = summary && text ? 0 : -ENOMEM;
    kinds_of(before, old);
    kinds_of(after, new);
    for (unsigned i = 0; rc == 0 && i < KINDS; i++)
        rc = diff_kind(summary, text, &old[i], &new[i]);
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
