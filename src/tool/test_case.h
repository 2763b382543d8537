/* test_case: what `sluice filter-test` is to try, as a cases file or the command line says it.
 *
 * Ownership  A file's contents are borrowed from its struct config; messages are the given arena's. */
#pragma once
#include <stdio.h>

#include "config/config.h"
#include "tool/message.h"

/* Headers that are expected: an object of the loader. A text: the values, joined with ", ", are that; a list: the
 * values are those; null: there is none. What else there must be is test_notes'. */
struct test_expect {
    struct cfg_mark mark;
    struct cfg_u32 status;
    struct cfg_bool reaches_origin, response_complete;
    struct cfg_value *request_headers, *response_headers, *request_trailers, *response_trailers;
    struct span request_body, response_body;
    bool has_request_body, has_response_body;
    struct cfg_value *metadata; /* objects, by namespace */
    struct cfg_value *filter_state;
    struct span response_flags, response_code_details;
    bool has_response_flags, has_response_code_details;
    struct span *log_contains;
    size_t log_contains_count;
};

/* Each after so many bytes of a body. */
struct test_abort {
    struct cfg_mark mark;
    struct cfg_u32 after_request_bytes;  /* the client leaves, having sent them */
    struct cfg_u32 after_response_bytes; /* the client leaves, having got them */
    struct cfg_u32 origin_after_bytes;   /* the origin leaves, having sent them */
};

struct test_case {
    struct cfg_mark mark;
    struct span name;
    struct span request, request_file, response, response_file;
    uint32_t *request_chunks, *response_chunks;
    size_t request_chunks_count, response_chunks_count;
    struct cfg_duration request_delay, response_delay, timeout;
    struct cfg_u32 repeat;
    struct test_abort *abort;   /* NULL: nobody leaves */
    struct test_expect *expect; /* NULL: nothing but that the filter survives */
};
enum { TEST_REPEAT_MAX = 100000 };

struct test_file {
    struct cfg_mark mark;
    struct span plugin;
    struct cfg_value *config;
    struct test_case *cases;
    size_t cases_count;
};
extern const struct cfg_schema test_file_schema;

/* The fields of a cases file as tables of Markdown. */
void test_file_print_fields(FILE *out);

/* 0, or as config_load. What the loader cannot see is checked by test_case_read. */
MUST_CHECK int test_file_load(const char *path, struct config **out, struct cfg_problems *problems);

/* Reads a case's messages, whose files' paths are relative to the folder of its own, and checks what it expects. False: a
 * problem was added. */
struct test_messages {
    struct message request, response;
};
MUST_CHECK bool test_case_read(struct cfg_arena *arena, const struct test_case *test,
                               struct test_messages *out, struct cfg_problems *problems);
