/* ext_handles: see the header. */
#include "ext/ext_handles.h"

#include <pthread.h>

struct handle_table ext_handles;
static int init_error;

static void init_once(void) {
    init_error = handle_table_init(&ext_handles, EXT_HANDLES_MAX);
}

int ext_handles_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    return init_error;
}
