/* access_log: one line per exchange to files, stdout or stderr, in text or JSON.
 *
 * Lines are buffered per P and log and written in one write(2) when 64 KiB are full or a second has
 * passed, as Envoy does; access_log_flush_all writes what is left. Files are opened with O_APPEND.
 *
 * Ownership  An access_log belongs to a snapshot; open files are shared by path and outlive
 *            snapshots while one refers to them.
 * Threads    access_log_write on the exchange's P; build and free off the Ps; reopen anywhere. */
#pragma once
#include "config/config.h"

struct exchange;
struct access_log;

/* Builds one of the three sinks; NULL and problems on error. The default format is Envoy's. */
struct access_log *access_log_build(const struct cfg_access_log *config,
                                    struct cfg_problems *problems);
void access_log_free(struct access_log *log);
void access_log_write(struct access_log *log, struct exchange *x);

/* SIGUSR1 and POST /reopen_logs. */
void access_log_reopen_all(void);
/* At exit. */
void access_log_flush_all(void);
