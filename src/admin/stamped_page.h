/* stamped_page: a page about a stamped_dir: its sets as HTML or JSON (?format=json), or one of its files (?file=NAME).
 *
 * Threads  On a coroutine of the admin; files are read on a thread of blocking_call, which fills the page while the
 *          coroutine leaves it alone: put_sets and put_fields are called there. */
#pragma once
#include "admin/json.h"
#include "admin/page.h"
#include "admin/stamped_dir.h"

struct stamped_view {
    const char *path;      /* of the page */
    const char *title;     /* and of the HTML */
    const char *items;     /* what the JSON's list is called */
    const char *file_type; /* content type of a file */
    /* Without a folder: a paragraph of HTML, and a line of text. */
    const char *off_html, *off_text;
    /* What stands between the title and the end of the HTML. */
    void (*put_sets)(struct text *out, const struct stamped_dir *dir,
                     const struct stamped_set *sets, int count);
    /* Of one set, in its object. */
    void (*put_fields)(struct json *json, const struct stamped_dir *dir,
                       const struct stamped_set *set);
};

/* dir NULL: there is none. */
void stamped_page(const struct stamped_view *view, const struct stamped_dir *dir,
                  const struct query *query, struct page *page);
