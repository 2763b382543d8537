/* thread: pthread_create, detached. Threads: any. */
#include "rt/thread.h"

#include <pthread.h>

int thread_start(void *(*fn)(void *arg), void *arg) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int err = pthread_create(&thread, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    return -err;
}
