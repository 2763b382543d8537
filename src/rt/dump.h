/* dump: all coroutines as text, one line each: name, state, what it waits for. */
#pragma once
#include <stddef.h>

/* Any thread; text is borrowed for the call. Coroutines go on meanwhile, so the picture is not of one
 * moment. Each line is as of when it was read. */
void rt_dump(void (*write)(void *arg, const char *text, size_t len), void *arg);
