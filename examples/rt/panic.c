/* panic: one request goes wrong deep down, is cleaned up after, and the next one is served.
 *
 * What a function must give back it says at once, with DEFER; a panic anywhere below passes through,
 * runs what was deferred, latest first, and ends in the panic_scope around the request. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/panic.h"
#include "rt/rt.h"

static unsigned held; /* buffers not given back */

static char *buffer_get(size_t size) {
    char *buffer = malloc(size);
    if (!buffer)
        panic("out of memory", NULL);
    held++;
    return buffer;
}

static void buffer_put(void *arg) {
    free(arg);
    held--;
}

static int digit(char c) {
    if (c < '0' || c > '9')
        panic("not a digit", NULL); /* three frames up somebody knows what to do about it */
    return c - '0';
}

static int number(const char *text) {
    int value = 0;
    for (; *text; text++)
        value = value * 10 + digit(*text);
    return value;
}

struct request {
    const char *text;
    char answer[64];
};

static void answer_error(void *arg) {
    struct request *request = arg;
    struct panic_value value;
    if (panic_recover(&value)) /* false when the request just ended */
        snprintf(request->answer, sizeof request->answer, "error: %s", value.message);
}

static void serve(void *arg) {
    struct request *request = arg;
    DEFER(answering, answer_error, request);
    char *copy = buffer_get(strlen(request->text) + 1);
    DEFER(freeing, buffer_put, copy);
    strcpy(copy, request->text);
    snprintf(request->answer, sizeof request->answer, "%d", 2 * number(copy));
}

static void main_coroutine(void *arg) {
    (void)arg;
    const char *const texts[] = {"21", "4x", "50"};
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct request request = {.text = texts[i]};
        bool returned = panic_scope(serve, &request);
        printf("twice %s: %s%s\n", request.text, request.answer, returned ? "" : " (recovered)");
    }
    rt_stop(held == 0 ? 0 : 1);
}

int main(void) {
    return rt_run(&(struct rt_options){0}, main_coroutine, NULL) == 0 ? 0 : 1;
}
