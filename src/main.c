#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "admin/crash_dir.h"
#include "admin/symbols.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "crash/crash_catch.h"
#include "crash/crash_report.h"
#include "ext/host/ext_host.h"
#include "ext/go/go_environ.h"
#include "options.h"
#include "server.h"
#include "supervise/notify.h"
#include "supervise/supervise.h"
#include "supervise/worker_link.h"
#include "tool/filter_test.h"

static bool set_logs(const struct options *options) {
    log_set_level(options->log_level);
    struct span rest = span_of(options->component_log_level);
    struct span pair;
    while (span_next_token(&rest, ',', &pair)) {
        ptrdiff_t colon = span_find(pair, ':');
        enum log_level level;
        if (colon < 0 || !log_level_parse(span_from(pair, (size_t)colon + 1), &level) ||
            !log_set_component_level(span_make(pair.ptr, (size_t)colon), level)) {
            fprintf(stderr,
                    "sluice: --component-log-level '%.*s': must be COMPONENT:LEVEL; "
                    "components:",
                    (int)pair.len, pair.ptr);
            for (unsigned i = 0; log_component_at(i); i++)
                fprintf(stderr, " %s", log_component_at(i)->name);
            fputc('\n', stderr);
            return false;
        }
    }
    int rc = options->log_path ? log_open_file(options->log_path) : 0;
    if (rc != 0)
        fprintf(stderr, "sluice: --log-path '%s': %s\n", options->log_path, strerror(-rc));
    return rc == 0;
}

/* Of the process that serves. */
static bool catch_crashes(const struct options *options) {
    int err = options->crash_dir ? crash_dir_use(options->crash_dir, options->crash_max) : 0;
    if (err)
        fprintf(stderr, "sluice: --crash-dir '%s': %s: name a folder that this user may write to\n",
                options->crash_dir, strerror(-err));
    const struct stamped_dir *dir = crash_dir_of_process();
    if (!err) {
        crash_dir_tell();
        const struct crash_options how = {
            .dir = dir ? dir->path : NULL,
            .reports_max = options->crash_max,
            .generation = worker_link_is_there() ? worker_link_generation() : 0,
        };
        err = crash_catch_start(&how);
    }
    return err == 0;
}

/* Whoever tells it something before it can listen does not mean to end it. Inherited by whom the supervisor starts. */
static void ignore_early_signals(void) {
    static const int all[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        (void)signal(all[i], SIG_IGN); /* cannot fail with these */
}

/* The exit code of the process. is_trial: its end is its parent's business. */
static int serve(const struct options *options, char **argv, bool is_trial) {
    const bool is_worker = worker_link_is_asked();
    if (options->mode == MODE_SERVE) {
        notify_take();
        ignore_early_signals();
    }
    if (options->mode == MODE_SERVE && options->supervise && !is_worker) {
        const struct supervise_options supervised = {
            .argv = argv, .patience_ns = options->hang_time_s * NS_PER_S};
        return supervise_run(&supervised);
    }
    int err = is_worker ? worker_link_open() : 0;
    if (err) {
        fprintf(stderr, "sluice: the supervisor cannot be understood: %s\n", strerror(-err));
        return 1;
    }
    if (options->mode == MODE_SERVE && !is_trial && !catch_crashes(options))
        return 1;
    return server_run(options);
}

int main(int argc, char **argv) {
    struct options options;
    if (crash_report_is_asked(argc, argv))
        return crash_report_main(argc, argv);
    go_environ_init(argc, argv);
    const bool is_trial = ext_host_is_asked(argc, argv);
    if (is_trial) {
        if (argc == 2) {
            symbols_init(); /* what it tells of a fault has names */
            return ext_host_main();
        }
        if (ext_host_prepare() != 0)
            return 2;
        argc--; /* a proxy as others, but that its parent's end is its own */
        argv++;
    }
    if (filter_test_is_asked(argc, argv))
        return filter_test_main(argc - 1, argv + 1);
    options_parse(argc, argv, &options);
    switch (options.mode) {
    case MODE_EXIT:
        return options.exit_code;
    case MODE_PRINT_DOCS:
        cfg_print_docs(stdout);
        return 0;
    case MODE_PRINT_SCHEMA:
        cfg_print_schema_json(stdout);
        return 0;
    default:
        break;
    }
    if (!set_logs(&options))
        return 1;
    int code = serve(&options, argv, is_trial);
    /* Threads of Go libraries go on running until the end, so nothing is torn down under them. */
    fflush(stdout);
    return code;
}
