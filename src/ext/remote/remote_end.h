/* remote_end: the end of the proxy, for its host processes: they are told, may say what they have left to say, and are gone.
 *
 * Threads  The main coroutine, once. Parks, for little more than SUPERVISOR_FAREWELL_NS. */
#pragma once

/* When it returns no process of a supervisor is there any more, no thread of one either, and what they said has been
 * read. Without a thread to do it on nothing is done: the kernel ends them with us. */
void remote_end_all(void);
