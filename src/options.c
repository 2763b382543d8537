#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/crash_dir.h"
#include "base/unit.h"
#include "heap/heap_profile.h"
#include "heap/memory_use.h"
#include "rt/rt.h"

enum {
    DRAIN_TIME_DEFAULT_S = 600, /* Envoy's */
    HANG_TIME_DEFAULT_S = 30,
    FLUSH_INTERVAL_DEFAULT_MS = 1000, /* Envoy's is 10 s; people look at logs sooner */
};
static const long heap_rate_max = 1L << 40; /* beyond a terabyte nothing is sampled anyway */

enum option_id {
    OPT_CONFIG_YAML = 256,
    OPT_MODE,
    OPT_LOG_PATH,
    OPT_COMPONENT_LOG_LEVEL,
    OPT_CONCURRENCY,
    OPT_IO,
    OPT_VERSION,
    OPT_ALLOW_UNKNOWN,
    OPT_REJECT_UNKNOWN,
    OPT_DRAIN_TIME,
    OPT_MEMORY_LIMIT,
    OPT_FLUSH_INTERVAL,
    OPT_ADMIN_ADDRESS_PATH,
    OPT_HEAP_PROFILE_RATE,
    OPT_SERVICE_CLUSTER,
    OPT_SERVICE_NODE,
    OPT_SERVICE_ZONE,
    OPT_DESCRIPTOR_SET,
    OPT_PRINT_DOCS,
    OPT_PRINT_SCHEMA,
    OPT_HEAP_SPIKE,
    OPT_HEAP_SPIKE_DIR,
    OPT_NO_PROBE,
    OPT_ISOLATE,
    OPT_SUPERVISE,
    OPT_HANG_TIME,
    OPT_CRASH_DIR,
    OPT_CRASH_MAX,
    OPT_INERT_VALUE,
    OPT_INERT,
};

static const struct option long_options[] = {
    {"config-path", required_argument, NULL, 'c'},
    {"config-yaml", required_argument, NULL, OPT_CONFIG_YAML},
    {"mode", required_argument, NULL, OPT_MODE},
    {"log-level", required_argument, NULL, 'l'},
    {"log-path", required_argument, NULL, OPT_LOG_PATH},
    {"component-log-level", required_argument, NULL, OPT_COMPONENT_LOG_LEVEL},
    {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
    {"io", required_argument, NULL, OPT_IO},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, 'h'},
    {"allow-unknown-fields", no_argument, NULL, OPT_ALLOW_UNKNOWN},
    {"allow-unknown-static-fields", no_argument, NULL, OPT_ALLOW_UNKNOWN},
    {"drain-time-s", required_argument, NULL, OPT_DRAIN_TIME},
    {"memory-limit", required_argument, NULL, OPT_MEMORY_LIMIT},
    {"admin-address-path", required_argument, NULL, OPT_ADMIN_ADDRESS_PATH},
    {"heap-profile-rate", required_argument, NULL, OPT_HEAP_PROFILE_RATE},
    {"service-cluster", required_argument, NULL, OPT_SERVICE_CLUSTER},
    {"service-node", required_argument, NULL, OPT_SERVICE_NODE},
    {"service-zone", required_argument, NULL, OPT_SERVICE_ZONE},
    {"descriptor-set", required_argument, NULL, OPT_DESCRIPTOR_SET},
    {"no-probe", no_argument, NULL, OPT_NO_PROBE},
    {"isolate-extensions", no_argument, NULL, OPT_ISOLATE},
    {"supervise", no_argument, NULL, OPT_SUPERVISE},
    {"hang-time-s", required_argument, NULL, OPT_HANG_TIME},
    {"crash-dir", required_argument, NULL, OPT_CRASH_DIR},
    {"crash-max", required_argument, NULL, OPT_CRASH_MAX},
    {"print-config-docs", no_argument, NULL, OPT_PRINT_DOCS},
    {"print-config-schema", no_argument, NULL, OPT_PRINT_SCHEMA},
    {"heap-spike", required_argument, NULL, OPT_HEAP_SPIKE},
    {"heap-spike-dir", required_argument, NULL, OPT_HEAP_SPIKE_DIR},
    {"base-id", required_argument, NULL, OPT_INERT_VALUE},
    {"restart-epoch", required_argument, NULL, OPT_INERT_VALUE},
    {"parent-shutdown-time-s", required_argument, NULL, OPT_INERT_VALUE},
    {"drain-strategy", required_argument, NULL, OPT_INERT_VALUE},
    {"file-flush-interval-msec", required_argument, NULL, OPT_FLUSH_INTERVAL},
    {"use-dynamic-base-id", no_argument, NULL, OPT_INERT},
    {"disable-hot-restart", no_argument, NULL, OPT_INERT},
    {"reject-unknown-dynamic-fields", no_argument, NULL, OPT_REJECT_UNKNOWN},
    {"ignore-unknown-dynamic-fields", no_argument, NULL, OPT_INERT},
    {0},
};

static const char help_text[] =
    "sluice " SLUICE_VERSION " - an HTTP proxy that runs Envoy's Go filters\n"
    "\n"
    "  sluice -c bootstrap.yaml [options]\n"
    "  sluice filter-test --help        runs one filter on recorded messages\n"
    "\n"
    "Configuration\n"
    "  -c, --config-path FILE           Envoy v3 bootstrap, YAML or JSON\n"
    "      --config-yaml YAML           merged over the file\n"
    "      --mode serve|validate        validate: check the config, print every problem, exit\n"
    "      --allow-unknown-static-fields  unknown fields are warnings\n"
    "      --reject-unknown-dynamic-fields  in files of discovery they are errors, not warnings\n"
    "      --descriptor-set FILE        protobuf descriptors of further @types in plugin_config\n"
    "      --no-probe                   load libraries without trying them in a process of their "
    "own\n"
    "                                   first; with --mode validate none of their code runs\n"
    "      --isolate-extensions         filters in C and extensions in Go run in host processes,\n"
    "                                   as with isolation: PROCESS in each\n"
    "      --service-node ID, --service-cluster NAME, --service-zone ZONE\n"
    "                                   in place of the bootstrap's node\n"
    "Running\n"
    "      --concurrency N              processors that run coroutines; default: one per core\n"
    "      --io auto|epoll|io_uring     how sockets talk to the kernel; auto: io_uring where it "
    "is\n"
    "                                   allowed, else epoll (auto)\n"
    "      --drain-time-s N             at SIGTERM, wait this long for connections (600)\n"
    "      --memory-limit SIZE|auto|off     near it let memory go, then hold requests back, then\n"
    "                                   answer 503; e.g. 512MiB; auto: the cgroup's limit (off);\n"
    "                                   also SLUICE_MEMORY_LIMIT\n"
    "      --supervise                  serve in a process of its own, which is started again "
    "when\n"
    "                                   it ends or hangs; no connection is refused meanwhile\n"
    "      --hang-time-s N              with --supervise: it hangs when a processor of its does\n"
    "                                   not turn for so long (30)\n"
    "      --crash-dir DIR              when it dies of a fault, write a report of it there, "
    "and\n"
    "                                   not to standard error\n"
    "      --crash-max N                at most so many reports there; the oldest go (20)\n"
    "      --admin-address-path FILE    write the admin's address there once it listens\n"
    "Memory\n"
    "      --heap-profile-rate BYTES    heap profile: sample one byte in so many (524288)\n"
    "                                   or, with 0, none; also SLUICE_HEAP_PROFILE_RATE\n"
    "      --heap-spike-dir DIR         when the memory in use rises suddenly, write heap\n"
    "                                   profiles of before and after there\n"
    "      --heap-spike RULE            what a spike is, where it differs from\n"
    "        " SPIKE_RULE_DEFAULT "\n"
    "Logs\n"
    "  -l, --log-level LEVEL            trace debug info warning error critical off\n"
    "      --component-log-level LIST   e.g. golang:debug,http:trace\n"
    "      --file-flush-interval-msec N     access log lines wait at most so long (1000)\n"
    "      --log-path FILE              instead of standard error; SIGUSR1 opens it again\n"
    "Information\n"
    "      --print-config-docs          the accepted configuration, as Markdown\n"
    "      --print-config-schema        the same for programs, as JSON\n"
    "      --version, -h, --help\n"
    "\n"
    "Accepted for compatibility and without effect: --base-id --use-dynamic-base-id "
    "--restart-epoch\n"
    "--parent-shutdown-time-s --drain-strategy --disable-hot-restart\n"
    "--ignore-unknown-dynamic-fields\n"
    "\n"
    "SIGTERM drains and ends, a second one ends at once; SIGUSR1 opens log files again.\n"
    "SIGHUP reads the configuration again and puts it in place without a lost connection; one "
    "that\n"
    "is wrong changes nothing, and the log says why.\n"
    "SIGUSR2, with --supervise, replaces the process that serves by one of the program and the\n"
    "configuration as they are on disk then.\n";

static void fail(struct options *out, const char *what, const char *value, const char *right) {
    fprintf(stderr, "sluice: %s '%s': %s\n", what, value, right);
    out->mode = MODE_EXIT;
    out->exit_code = 1;
}

static bool parse_number(const char *text, long min, long max, long *out) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < min || value > max)
        return false;
    *out = value;
    return true;
}

/* "512MiB" and the like. The least that makes sense is more than the process has when it is idle. */
static bool parse_size(const char *text, uint64_t *out) {
    static const struct unit bare[] = {{SPAN_INIT(""), 1}, {{NULL, 0}, 0}};
    int64_t bytes;
    if (!unit_parse(span_of(text), bare, INT64_MAX, &bytes) &&
        !unit_parse(span_of(text), unit_bytes, INT64_MAX, &bytes))
        return false;
    *out = (uint64_t)bytes;
    return bytes > 0;
}

static void set_memory_limit(struct options *out, const char *what, const char *value) {
    if (strcmp(value, "off") == 0) {
        out->memory_limit_bytes = 0;
    } else if (strcmp(value, "auto") == 0) {
        out->memory_limit_bytes = memory_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup");
    } else if (!parse_size(value, &out->memory_limit_bytes)) {
        fail(out, what, value,
             "must be a number of bytes, with KiB, MiB, GiB or TiB behind it if need be, auto or "
             "off");
    }
}

static void done(struct options *out) {
    out->mode = MODE_EXIT;
    out->exit_code = 0;
}

static void set_mode(struct options *out, const char *value) {
    if (strcmp(value, "serve") == 0)
        out->mode = MODE_SERVE;
    else if (strcmp(value, "validate") == 0)
        out->mode = MODE_VALIDATE;
    else
        fail(out, "--mode", value, "must be serve or validate");
}

static void set_io(struct options *out, const char *value) {
    static const char *const names[] = {
        [RT_IO_AUTO] = "auto", [RT_IO_EPOLL] = "epoll", [RT_IO_IO_URING] = "io_uring"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(value, names[i]) == 0) {
            out->io = (enum rt_io)i;
            return;
        }
    fail(out, "--io", value, "must be auto, epoll or io_uring");
}

static void set_heap_profile_rate(struct options *out, const char *what, const char *value) {
    long number;
    if (parse_number(value, 0, heap_rate_max, &number))
        out->heap_profile_rate = (uint64_t)number;
    else
        fail(out, what, value, "must be a number of bytes, one of which is sampled; 0: none");
}

static void take(struct options *out, int id, const char *value) {
    long number;
    const char *wrong;
    switch (id) {
    case 'c':
        out->config_path = value;
        break;
    case OPT_CONFIG_YAML:
        out->config_yaml = value;
        break;
    case OPT_MODE:
        set_mode(out, value);
        break;
    case 'l':
        out->log_level_text = value;
        if (!log_level_parse(span_of(value), &out->log_level))
            fail(out, "--log-level", value,
                 "must be trace, debug, info, warning, error, "
                 "critical or off");
        break;
    case OPT_LOG_PATH:
        out->log_path = value;
        break;
    case OPT_COMPONENT_LOG_LEVEL:
        out->component_log_level = value;
        break;
    case OPT_CONCURRENCY:
        if (parse_number(value, 0, RT_P_MAX, &number))
            out->concurrency = (unsigned)number;
        else
            fail(out, "--concurrency", value, "must be a number from 1 to 128");
        break;
    case OPT_IO:
        set_io(out, value);
        break;
    case OPT_DRAIN_TIME:
        if (parse_number(value, 0, 86400L * 365, &number))
            out->drain_time_s = number;
        else
            fail(out, "--drain-time-s", value, "must be a number of seconds");
        break;
    case OPT_MEMORY_LIMIT:
        set_memory_limit(out, "--memory-limit", value);
        break;
    case OPT_FLUSH_INTERVAL:
        if (parse_number(value, 1, 3600 * 1000L, &number))
            out->flush_interval_ms = number;
        else
            fail(out, "--file-flush-interval-msec", value, "must be a number of milliseconds");
        break;
    case OPT_ALLOW_UNKNOWN:
        out->allow_unknown_static_fields = true;
        break;
    case OPT_REJECT_UNKNOWN:
        out->reject_unknown_dynamic_fields = true;
        break;
    case OPT_NO_PROBE:
        out->no_probe = true;
        break;
    case OPT_ISOLATE:
        out->isolate_extensions = true;
        break;
    case OPT_SUPERVISE:
        out->supervise = true;
        break;
    case OPT_HANG_TIME:
        if (parse_number(value, 1, 86400, &number))
            out->hang_time_s = number;
        else
            fail(out, "--hang-time-s", value, "must be a number of seconds");
        break;
    case OPT_CRASH_DIR:
        out->crash_dir = value;
        break;
    case OPT_CRASH_MAX:
        if (parse_number(value, 1, CRASH_REPORTS_MAX, &number))
            out->crash_max = (unsigned)number;
        else
            fail(out, "--crash-max", value, "must be a number from 1 to 1000");
        break;
    case OPT_ADMIN_ADDRESS_PATH:
        out->admin_address_path = value;
        break;
    case OPT_HEAP_PROFILE_RATE:
        set_heap_profile_rate(out, "--heap-profile-rate", value);
        break;
    case OPT_SERVICE_CLUSTER:
        out->service_cluster = value;
        break;
    case OPT_SERVICE_NODE:
        out->service_node = value;
        break;
    case OPT_SERVICE_ZONE:
        out->service_zone = value;
        break;
    case OPT_DESCRIPTOR_SET:
        out->descriptor_set = value;
        break;
    case OPT_PRINT_DOCS:
        out->mode = MODE_PRINT_DOCS;
        break;
    case OPT_PRINT_SCHEMA:
        out->mode = MODE_PRINT_SCHEMA;
        break;
    case OPT_HEAP_SPIKE:
        out->heap_spike_text = value;
        wrong = spike_rule_parse(value, &out->heap_spike);
        if (wrong)
            fail(out, "--heap-spike", value, wrong);
        break;
    case OPT_HEAP_SPIKE_DIR:
        out->heap_spike_dir = value;
        break;
    case OPT_INERT_VALUE:
    case OPT_INERT:
        break;
    case OPT_VERSION:
        puts("sluice " SLUICE_VERSION);
        done(out);
        break;
    case 'h':
        fputs(help_text, stdout);
        done(out);
        break;
    default: /* getopt has said what is wrong */
        fputs("Try 'sluice --help'.\n", stderr);
        out->mode = MODE_EXIT;
        out->exit_code = 1;
    }
}

void options_parse(int argc, char **argv, struct options *out) {
    *out = (struct options){.log_level = LOG_INFO,
                            .log_level_text = "info",
                            .heap_spike = spike_rule_default(),
                            .io = RT_IO_AUTO,
                            .drain_time_s = DRAIN_TIME_DEFAULT_S,
                            .hang_time_s = HANG_TIME_DEFAULT_S,
                            .crash_max = CRASH_REPORTS_DEFAULT,
                            .flush_interval_ms = FLUSH_INTERVAL_DEFAULT_MS,
                            .heap_profile_rate = HEAP_PROFILE_RATE};
    const char *rate = getenv("SLUICE_HEAP_PROFILE_RATE");
    if (rate) /* before the flags, which win */
        set_heap_profile_rate(out, "SLUICE_HEAP_PROFILE_RATE", rate);
    const char *memory_limit = getenv("SLUICE_MEMORY_LIMIT");
    if (memory_limit && *memory_limit)
        set_memory_limit(out, "SLUICE_MEMORY_LIMIT", memory_limit);
    int id;
    while (out->mode != MODE_EXIT &&
           (id = getopt_long(argc, argv, "c:l:h", long_options, NULL)) != -1)
        take(out, id, optarg);
    if (out->mode == MODE_EXIT)
        return;
    if (optind < argc)
        fail(out, "argument", argv[optind], "not understood; a config is given with -c FILE");
    else if (out->mode <= MODE_VALIDATE && !out->config_path && !out->config_yaml)
        fail(out, "config", "", "none given: use -c FILE or --config-yaml YAML");
    else if (out->heap_spike_text && !out->heap_spike_dir)
        fail(out, "--heap-spike", out->heap_spike_text,
             "does nothing without --heap-spike-dir DIR");
}
