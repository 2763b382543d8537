/* action_pages: what changes the process. All of them answer "OK" and need POST. */
#include <stdlib.h>

#include "admin/page.h"
#include "base/stats.h"

static void ok(struct page *page) {
    text_puts(&page->body, "OK\n");
}

void page_quit(const struct query *query, struct page *page) {
    admin_hooks()->quit();
    ok(page);
}

void page_drain_listeners(const struct query *query, struct page *page) {
    const struct admin_drain how = {.graceful = query_has(query, "graceful"),
                                    .inbound_only = query_has(query, "inboundonly"),
                                    .skip_exit = query_has(query, "skip_exit")};
    admin_hooks()->drain_listeners(&how);
    ok(page);
}

void page_healthcheck_fail(const struct query *query, struct page *page) {
    admin_hooks()->fail_healthcheck(true);
    ok(page);
}

void page_healthcheck_ok(const struct query *query, struct page *page) {
    admin_hooks()->fail_healthcheck(false);
    ok(page);
}

void page_reset_counters(const struct query *query, struct page *page) {
    stats_reset_counters();
    ok(page);
}

void page_config_reload(const struct query *query, struct page *page) {
    char *said;
    if (!admin_hooks()->reload_config(&said))
        page->status = said ? 400 : 503;
    text_puts(&page->body, said ? said : "out of memory\n");
    free(said);
}

void page_reopen_logs(const struct query *query, struct page *page) {
    admin_hooks()->reopen_logs();
    ok(page);
}
