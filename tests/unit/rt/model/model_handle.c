/* handle: whoever has a lease has the object, its end has one author and one finalizer that comes after
 * all of them, and a slot that was used again opens nothing to who has its old handle. */
#include <errno.h>
#include <string.h>

#include "explorer.h"
#include "mem/handle.h"

static const int kind;
static struct handle_table table;
static struct {
    struct model_cell payload;
    unsigned ended;
} objects[4];
static uint64_t handles[4];
static _Atomic uint64_t published;
static unsigned destroyers, users;

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

/* It knows what the last user has written. */
static void ends(void *object, const void *key) {
    unsigned i = *(unsigned *)object;
    MODEL_CHECK(model_cell_read(&objects[i].payload) >= 100);
    model_cell_write(&objects[i].payload, 0);
    objects[i].ended++;
}

static unsigned numbers[] = {0, 1, 2, 3};

static uint64_t make(unsigned i) {
    model_cell_write(&objects[i].payload, 100);
    handles[i] = handle_make(
        &table, 0, &(struct handle_object){.object = &numbers[i], .key = &kind, .finalize = ends});
    return handles[i];
}

static void setup(uint32_t max, unsigned count) {
    if (table.slots)
        handle_table_fini(&table);
    memset(objects, 0, sizeof objects);
    memset(handles, 0, sizeof handles);
    published = 0;
    destroyers = users = 0;
    MODEL_CHECK(handle_table_init(&table, max) == 0);
    for (unsigned i = 0; i < count; i++)
        MODEL_CHECK(make(i) != 0);
}

/* Reads what it has to find in there, and leaves something behind. */
static void use(uint64_t handle, unsigned expected) {
    unsigned *object = handle_lease(&table, handle, &kind);
    if (!object)
        return;
    MODEL_CHECK(*object == expected);
    MODEL_CHECK(objects[expected].ended == 0);
    MODEL_CHECK(model_cell_read(&objects[expected].payload) >= 100);
    model_cell_write(&objects[expected].payload, 101);
    users++;
    handle_release(&table, handle);
}

static void destroy(unsigned i) {
    destroyers += handle_destroy(&table, handles[i], &kind) == 0;
}

/* ---- one object ---- */

static void setup_one(void) {
    setup(1, 1);
}

static void uses_first(void) {
    use(handles[0], 0);
}

static void destroys_first(void) {
    destroy(0);
}

static void ended_once(void) {
    MODEL_CHECK(destroyers == 1);
    MODEL_CHECK(objects[0].ended == 1);
    MODEL_CHECK(handle_count(&table) == 0);
    MODEL_CHECK(!handle_lease(&table, handles[0], &kind));
}

/* A refused look-up knows what was done before the end. */
static struct model_cell tombstone;

static void setup_tombstone(void) {
    setup(1, 1);
    model_cell_write(&tombstone, 1);
}

static void leaves_word_and_destroys(void) {
    model_cell_write(&tombstone, 2);
    destroy(0);
}

static void looks_up_or_reads_it(void) {
    if (handle_lease(&table, handles[0], &kind))
        handle_release(&table, handles[0]);
    else
        MODEL_CHECK(model_cell_read(&tombstone) == 2);
}

/* ---- a slot that is used again ---- */

static void makes_second(void) {
    if (make(1))
        atomic_store_explicit(&published, handles[1], memory_order_relaxed);
}

static void destroys_first_and_uses_second(void) {
    destroy(0);
    uint64_t second = atomic_load_explicit(&published, memory_order_relaxed);
    if (second)
        use(second, 1);
}

static void first_is_over(void) {
    MODEL_CHECK(destroyers == 1);
    MODEL_CHECK(objects[0].ended == 1);
    MODEL_CHECK(!handle_lease(&table, handles[0], &kind));
    MODEL_CHECK(objects[1].ended == 0);
    if (handles[1])
        MODEL_CHECK(handle_index(handles[1]) == handle_index(handles[0]) &&
                    handles[1] != handles[0]);
    else
        MODEL_CHECK(make(1) != 0);
}

/* ---- slots that come back ---- */

static void setup_two(void) {
    setup(2, 2);
}

static void destroys_second(void) {
    destroy(1);
}

static void makes_two_more(void) {
    (void)make(2);
    (void)make(3);
}

static void no_slot_is_lost_or_twice(void) {
    MODEL_CHECK(destroyers == 2);
    for (unsigned i = 2; i < 4; i++)
        MODEL_CHECK(handles[i] || make(i) != 0);
    MODEL_CHECK(handle_index(handles[2]) != handle_index(handles[3]));
    MODEL_CHECK(handle_count(&table) == 2);
}

int main(void) {
    static const struct model_story stories[] = {
        {.name = "one who uses it and two who end it",
         .setup = setup_one,
         .thread_count = 3,
         .threads = {uses_first, destroys_first, destroys_first},
         .check = ended_once,
         .preemptions = 3,
         .stale_reads = 1},
        {.name = "a look-up that comes too late",
         .setup = setup_tombstone,
         .thread_count = 3,
         .threads = {leaves_word_and_destroys, looks_up_or_reads_it, looks_up_or_reads_it},
         .check = ended_once,
         .preemptions = 3,
         .stale_reads = 2},
        {.name = "a slot that is used again while its old handle is looked up",
         .setup = setup_one,
         .thread_count = 3,
         .threads = {makes_second, destroys_first_and_uses_second, uses_first},
         .check = first_is_over,
         .preemptions = 3,
         .stale_reads = 1},
        {.name = "two slots that come back while their owner makes more",
         .setup = setup_two,
         .thread_count = 3,
         .threads = {makes_two_more, destroys_first, destroys_second},
         .check = no_slot_is_lost_or_twice,
         .preemptions = 3,
         .stale_reads = 1},
    };
    for (unsigned i = 0; i < sizeof stories / sizeof stories[0]; i++)
        model_explore(&stories[i]);
    return 0;
}
