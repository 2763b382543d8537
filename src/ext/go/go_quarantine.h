/* go_quarantine: texts that Go was shown without being told how long they are good. The SDK makes a string of such
 * a text where it lies, and who has the string may keep it.
 *
 *     go_quarantine_keep ──► list of a call, good as long as that ──► go_quarantine_put ──► [newest ... oldest] ──► free
 *                                                                                       GO_QUARANTINE_BYTES
 *
 * So a text is good for its call, however long that takes, and then until as many bytes of others came after it:
 * who uses it in time has it, and who keeps it (without strings.Clone) sees it for long.
 *
 * Threads  Any; a list is its call's. */
#pragma once
#include "base/check.h"
#include "base/span.h"

enum { GO_QUARANTINE_BYTES = 16 << 20 };

struct go_quarantined {
    struct go_quarantined *next;
    size_t len;
    char bytes[];
};
struct go_quarantine_list {
    struct go_quarantined *first, *last;
    size_t bytes;
};

/* A copy, or one that the list has already. The absent span when memory is short. */
MUST_CHECK struct span go_quarantine_keep(struct go_quarantine_list *list, struct span text);
/* The call is over. The list is empty then. */
void go_quarantine_put(struct go_quarantine_list *list);
