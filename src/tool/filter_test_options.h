/* filter_test_options: the command line of `sluice filter-test`. Strings are borrowed from argv. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "config/types.h"

struct filter_test_options {
    const char *library, *plugin, *config_path, *filter_path;
    const char *cases_path, *request_path, *response_path;
    const char *log_level;
    struct cfg_u32 chunk_bytes, delay_ms, abort_after_request, abort_after_response;
    uint32_t timeout_ms;
    bool is_quiet, is_verbose;
};

/* -1: go on; else the exit status: help was given, or what is wrong was told. */
int filter_test_options_parse(int argc, char **argv, struct filter_test_options *out);
