/* access_log: one line per exchange or connection to files, stdout or stderr, in text or JSON.
 *
 * Lines are buffered per P and file, and written by a thread of their own, in one write(2) when
 * 64 KiB are full or a second has passed; access_log_flush_all writes what is left. Files are opened
 * with O_APPEND.
 *
 * Ownership  An access_log belongs to a snapshot; open files are shared by path and outlive
 *            snapshots while one refers to them.
 * Threads    access_log_write on the P of the exchange or connection, it never blocks; build and free off the Ps (they
 *            open files); reopen anywhere.
 * Errors     A line that cannot be written is counted in filesystem.write_failed and gone. */
#pragma once
#include "config/config.h"

struct access_log;
struct format_subject;

/* Builds one of the three sinks; NULL and problems on error. The default format is Envoy's. */
struct access_log *access_log_build(const struct cfg_access_log *config,
                                    struct cfg_problems *problems);
void access_log_free(struct access_log *log);
/* A line, if the log's filter lets one of this type through. */
void access_log_write(struct access_log *log, const struct format_subject *of);

/* How long a line may wait in its buffer; 1 s by default. Before the first log is built. */
void access_log_set_flush_interval(int64_t interval_ms);
/* SIGUSR1 and POST /reopen_logs. Asks for it and returns: the writer does it once what was logged
 * before is written. */
void access_log_reopen_all(void);
/* Writes what is left, at exit. Blocks until it is done, at most 2 s (a file may be stuck). */
void access_log_flush_all(void);
