/* fake_process: hooks of a process that does not run, for tests of pages. */
#pragma once
#include "admin/page.h"
#include "ext/remote/supervisor.h"

struct fake_process {
    enum admin_state state;
    struct config *config; /* borrowed; NULL: none */
    unsigned quits, drains, reopens, reloads;
    bool refuses; /* to reload */
    struct admin_drain last_drain;
    bool failing;
    const struct supervisor_status *libraries; /* isolated ones; borrowed */
    size_t library_count;
};
extern struct fake_process fake;

void fake_process_install(void);

/* The answer, with a NUL behind its body. page_fini it. */
struct page ask(const char *method, const char *target);
/* Asserts on the status of a GET and that the body is exactly this. */
void assert_get(const char *target, unsigned status, const char *body);
