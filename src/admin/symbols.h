/* symbols: functions, files and lines for backtraces, from the debug data of the executable and of all
 * loaded libraries, those of Go included. */
#pragma once

/* Makes this process's dumps tell them. Nothing is read before somebody asks. */
void symbols_init(void);
/* Gives back what reading debug data took, tens of megabytes of what a profile of memory would otherwise
 * tell of first. What was found stays. At the end of look-ups, by who may block and holds no P. */
void symbols_rest(void);
