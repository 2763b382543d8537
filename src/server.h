/* server: the process's life: start, serve, drain, stop. */
#pragma once
#include "options.h"

/* Runs until it is told to stop; the exit code of the process. */
int server_run(const struct options *options);
