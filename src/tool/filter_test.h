/* filter_test: the verb `sluice filter-test`: runs one filter in a proxy of its own on recorded messages, and
 * tells what it changed and whether what was expected came of it.
 *
 * Threads  The process's first, before any other. */
#pragma once
#include <stdbool.h>

bool filter_test_is_asked(int argc, char **argv);
/* argv[0] is the verb. Exit status: 0 all is as expected, 1 it is not, 2 it could not be tried. */
int filter_test_main(int argc, char **argv);
