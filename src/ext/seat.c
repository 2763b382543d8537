/* seat: see the header. */
#include "ext/seat.h"

#include <errno.h>

void seat_table_init(struct seat_table *table) {
    for (unsigned i = 0; i < SEATS_PER_P; i++) {
        comutex_init(&table->seats[i].mutex);
        table->seats[i].streams = 0;
    }
}

unsigned seat_bind(struct seat_table *table) {
    unsigned best = 0;
    for (unsigned i = 0; i < SEATS_PER_P; i++) {
        if (!table->seats[i].mutex.held) {
            best = i;
            break;
        }
        if (table->seats[i].streams < table->seats[best].streams)
            best = i;
    }
    table->seats[best].streams++;
    return best;
}

void seat_unbind(struct seat_table *table, unsigned number) {
    ASSERT(table->seats[number].streams > 0);
    table->seats[number].streams--;
}

int seat_lock(struct seat_table *table, unsigned number, bool must_have, bool *waited) {
    struct comutex *mutex = &table->seats[number].mutex;
    *waited = mutex->held;
    bool was_cancelled = false;
    if (must_have && rt_cancelled()) {
        was_cancelled = true;
        rt_cancel_clear();
    }
    int err;
    while ((err = comutex_lock(mutex, RT_FOREVER)) != 0 && must_have) {
        was_cancelled = true; /* it came while we waited */
        rt_cancel_clear();
    }
    if (was_cancelled)
        rt_cancel(rt_self());
    return err;
}

void seat_unlock(struct seat_table *table, unsigned number) {
    comutex_unlock(&table->seats[number].mutex);
}
