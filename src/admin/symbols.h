/* symbols: functions, files and lines for backtraces, from the debug data of the executable and of all
 * loaded libraries, those of Go included. */
#pragma once

/* Makes this process's dumps tell them. Nothing is read before somebody asks. */
void symbols_init(void);
