#include "tool/filter_test_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "tool/test_case.h"

enum { WRONG = 2, TIMEOUT_DEFAULT_MS = 10000, NUMBER_MAX = 1 << 30 };

enum {
    OPT_PLUGIN = 256,
    OPT_CONFIG,
    OPT_BOOTSTRAP_FILTER,
    OPT_CASES,
    OPT_REQUEST,
    OPT_RESPONSE,
    OPT_CHUNK_BYTES,
    OPT_DELAY_MS,
    OPT_ABORT_AFTER_REQUEST,
    OPT_ABORT_AFTER_RESPONSE,
    OPT_TIMEOUT_MS,
    OPT_LOG_LEVEL,
    OPT_VERBOSE,
    OPT_QUIET,
    OPT_PRINT_FIELDS,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"plugin", required_argument, NULL, OPT_PLUGIN},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"bootstrap-filter", required_argument, NULL, OPT_BOOTSTRAP_FILTER},
    {"cases", required_argument, NULL, OPT_CASES},
    {"request", required_argument, NULL, OPT_REQUEST},
    {"response", required_argument, NULL, OPT_RESPONSE},
    {"chunk-bytes", required_argument, NULL, OPT_CHUNK_BYTES},
    {"delay-ms", required_argument, NULL, OPT_DELAY_MS},
    {"abort-after-request", required_argument, NULL, OPT_ABORT_AFTER_REQUEST},
    {"abort-after-response", required_argument, NULL, OPT_ABORT_AFTER_RESPONSE},
    {"timeout-ms", required_argument, NULL, OPT_TIMEOUT_MS},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"print-fields", no_argument, NULL, OPT_PRINT_FIELDS},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static const char help_text[] =
    "sluice filter-test - runs one filter on recorded messages and tells what it changed\n"
    "\n"
    "  sluice filter-test FILTER.so --plugin NAME [--config FILE] --request FILE.http [options]\n"
    "  sluice filter-test FILTER.so [--config FILE] --request FILE.http [options]   (in C)\n"
    "  sluice filter-test FILTER.so --cases FILE.yaml [options]\n"
    "  sluice filter-test --bootstrap-filter FILE --cases FILE.yaml [options]\n"
    "\n"
    "The filter\n"
    "  FILTER.so                 a Go filter: a c-shared library made with Envoy's Go SDK; or a\n"
    "                            filter in C, made with sluice/filter.h\n"
    "      --plugin NAME         of Go: which of its plugins, by the name that it registers\n"
    "      --config FILE         its plugin_config, YAML or JSON: an object, which it gets as a\n"
    "                            TypedStruct, or with \"@type\" as it is; of C: its config\n"
    "      --bootstrap-filter FILE  in place of these three: any filter, as an entry of\n"
    "                            http_filters\n"
    "What it gets\n"
    "      --cases FILE          cases, each with what is expected, YAML or JSON\n"
    "      --request FILE        one request: start line, headers, empty line, body\n"
    "      --response FILE       what the origin answers it; without: 200, no body\n"
    "      --chunk-bytes N       bodies go out in pieces of so many bytes\n"
    "      --delay-ms N          with a pause before each piece\n"
    "      --abort-after-request N   the client leaves, having sent N bytes of the body\n"
    "      --abort-after-response N  the client leaves, having got N bytes of the body\n"
    "How\n"
    "      --timeout-ms N        for each request; then the filter is stuck (10000)\n"
    "      --log-level LEVEL     of the proxy and the filter (info)\n"
    "      --verbose             show what they log\n"
    "      --quiet               show failing cases alone\n"
    "      --print-fields        print the fields of a cases file as Markdown, and exit\n"
    "\n"
    "What changed is shown against a run of the same messages without the filter: '-' is how they "
    "are\n"
    "without it, '+' with it. A filter that panics, crashes or does not let go of a request "
    "fails.\n"
    "Exit status: 0 all is as expected, 1 it is not, 2 it could not be tried.\n"
    "docs/test-a-filter.md has examples.\n";

static int wrong(const char *what, const char *value, const char *right) {
    fprintf(stderr, "sluice filter-test: %s '%s': %s\n", what, value, right);
    return WRONG;
}

static bool parse_number(const char *text, uint32_t *out) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < 0 || value > NUMBER_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

static int take_number(const char *what, const char *text, struct cfg_u32 *out) {
    out->set = parse_number(text, &out->value);
    return out->set ? -1 : wrong(what, text, "must be a number");
}

static int take(struct filter_test_options *out, int id, const char *value) {
    enum log_level level;
    switch (id) {
    case OPT_PLUGIN:
        out->plugin = value;
        break;
    case OPT_CONFIG:
        out->config_path = value;
        break;
    case OPT_BOOTSTRAP_FILTER:
        out->filter_path = value;
        break;
    case OPT_CASES:
        out->cases_path = value;
        break;
    case OPT_REQUEST:
        out->request_path = value;
        break;
    case OPT_RESPONSE:
        out->response_path = value;
        break;
    case OPT_CHUNK_BYTES:
        if (take_number("--chunk-bytes", value, &out->chunk_bytes) >= 0 || !out->chunk_bytes.value)
            return wrong("--chunk-bytes", value, "must be a number of bytes, 1 or more");
        break;
    case OPT_DELAY_MS:
        return take_number("--delay-ms", value, &out->delay_ms);
    case OPT_ABORT_AFTER_REQUEST:
        return take_number("--abort-after-request", value, &out->abort_after_request);
    case OPT_ABORT_AFTER_RESPONSE:
        return take_number("--abort-after-response", value, &out->abort_after_response);
    case OPT_TIMEOUT_MS:
        if (!parse_number(value, &out->timeout_ms) || !out->timeout_ms)
            return wrong("--timeout-ms", value, "must be a number of milliseconds");
        break;
    case OPT_LOG_LEVEL:
        if (!log_level_parse(span_of(value), &level))
            return wrong("--log-level", value,
                         "must be trace, debug, info, warning, error, critical or off");
        out->log_level = value;
        break;
    case OPT_VERBOSE:
        out->is_verbose = true;
        break;
    case OPT_QUIET:
        out->is_quiet = true;
        break;
    case OPT_PRINT_FIELDS:
        test_file_print_fields(stdout);
        return 0;
    case OPT_HELP:
        fputs(help_text, stdout);
        return 0;
    default: /* getopt has said what is wrong */
        fputs("Try 'sluice filter-test --help'.\n", stderr);
        return WRONG;
    }
    return -1;
}

static int check(const struct filter_test_options *o) {
    bool has_single = o->response_path || o->chunk_bytes.set || o->delay_ms.set ||
                      o->abort_after_request.set || o->abort_after_response.set;
    if (!o->library && !o->filter_path)
        return wrong("FILTER.so", "", "none given; see sluice filter-test --help");
    if (o->filter_path && (o->library || o->plugin || o->config_path))
        return wrong("--bootstrap-filter", o->filter_path,
                     "stands in place of FILTER.so, --plugin and --config");
    if (!o->cases_path && !o->request_path)
        return wrong("--request", "", "none given: use --request FILE or --cases FILE");
    if (o->cases_path && (o->request_path || has_single))
        return wrong("--cases", o->cases_path,
                     "says itself what is sent, how, and who leaves: it excludes the other "
                     "options of what the filter gets");
    return -1;
}

int filter_test_options_parse(int argc, char **argv, struct filter_test_options *out) {
    *out = (struct filter_test_options){.log_level = "info", .timeout_ms = TIMEOUT_DEFAULT_MS};
    int id, code = -1;
    while (code < 0 && (id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        code = take(out, id, optarg);
    if (code >= 0)
        return code;
    if (optind < argc)
        out->library = argv[optind++];
    if (optind < argc)
        return wrong("argument", argv[optind], "not understood: one filter is tested at a time");
    return check(out);
}
