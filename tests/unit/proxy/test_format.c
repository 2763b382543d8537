/* Command operators: what each prints, and what a format is refused for. Envoy 1.40 printed the same
 * for the same exchange. */
#include "route_story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/stats.h"
#include "proxy/access_log_internal.h"
#include "proxy/connection_info.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"

static const struct cfg_mark here = {SPAN_INIT("test.yaml"), 7, SPAN_INIT("at.the.format")};

/* The text of a format for the story's exchange, in malloc memory. */
static char *text_of(struct story *story, const char *format, const char *empty) {
    struct cfg_problems problems = {0};
    struct format *compiled = format_compile(span_of(format), &here, &problems);
    if (!compiled)
        fail_msg("%s: %s", format, problems.items[0].text);
    struct format_out out = {0};
    const struct format_subject of = format_of_exchange(&story->x);
    format_write(compiled, &of, span_of(empty), &out, NULL);
    assert_false(out.failed);
    format_out_put(&out, span_make("", 1));
    format_free(compiled);
    return out.data;
}

#define PRINTS(story, format, expected)                                                            \
    do {                                                                                           \
        char *text_ = text_of((story), (format), "-");                                             \
        assert_string_equal(text_, (expected));                                                    \
        free(text_);                                                                               \
    } while (0)

enum { WALL_S = 1774872123 }; /* 2026-03-30T12:02:03 */

static void proxied(struct story *story) {
    story_begin(story, "GET /z/p?k=vv&k=2\nx-h: hello\nx-h: two\nx-request-id: id-1\n"
                       "x-envoy-original-path: /p?k=vv&k=2");
    story_add(story, &story->x.response.headers, ":status: 200\nx-up: one");
    struct stream_info *info = &story->x.info;
    info->protocol = 1;
    info->start_wall_ns = WALL_S * NS_PER_S + 4005006;
    info->start_ns = NS_PER_S;
    info->request_received_ns = info->start_ns + 1 * NS_PER_MS;
    info->upstream_tx_first_ns = info->start_ns + 2345 * NS_PER_US;
    info->upstream_tx_last_ns = info->start_ns + 3 * NS_PER_MS;
    info->upstream_rx_first_ns = info->start_ns + 14 * NS_PER_MS;
    info->upstream_rx_last_ns = info->start_ns + 15 * NS_PER_MS;
    info->downstream_tx_first_ns = info->start_ns + 16 * NS_PER_MS;
    info->end_ns = info->start_ns + 20 * NS_PER_MS;
    info->response_code = 200;
    info->bytes_received = 12;
    info->bytes_sent = 365;
    info->header_bytes_received = 100;
    info->header_bytes_sent = 200;
    info->downstream_local = SPAN_LIT("127.0.0.1:18091");
    info->downstream_remote = SPAN_LIT("10.0.0.9:0");
    info->downstream_direct_remote = SPAN_LIT("[::1]:53978");
    info->upstream_local = SPAN_LIT("127.0.0.1:55290");
    info->upstream_remote = SPAN_LIT("127.0.0.1:18090");
    info->upstream_cluster = SPAN_LIT("up");
    info->upstream_attempts = 1;
    info->connection_id = 7;
    info->route_name = SPAN_LIT("rn");
}

static void values_of_a_proxied_request(void **state) {
    (void)state;
    struct story s;
    proxied(&s);
    PRINTS(&s, "plain 100%% %%REQ(x)%%", "plain 100% %REQ(x)%");
    PRINTS(&s, "", "");
    PRINTS(&s,
           "%REQ(x-h)%|%REQ(x-n)%|%REQ(X-N?X-H)%|%REQ(x-h):2%|%REQ(host)%|%REQ(:PATH)%|%REQ(:"
           "METHOD):100%|%REQUEST_HEADER(x-h?:path)%",
           "hello|-|hello|he|a.com|/z/p?k=vv&k=2|GET|hello");
    PRINTS(
        &s,
        "%RESP(x-up)% %RESPONSE_HEADER(:status)% %RESP(x-no)% %TRAILER(x)% %RESPONSE_TRAILER(x)%",
        "one 200 - - -");
    PRINTS(&s,
           "%PROTOCOL% %UPSTREAM_PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
           "HTTP/1.1 HTTP/1.1 200 - -");
    PRINTS(&s,
           "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
           "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
           "via_upstream - -");
    PRINTS(&s,
           "%BYTES_RECEIVED% %BYTES_SENT% %DOWNSTREAM_HEADER_BYTES_RECEIVED% "
           "%DOWNSTREAM_HEADER_BYTES_SENT%",
           "12 365 100 200");
    PRINTS(&s,
           "%DURATION% %REQUEST_DURATION% %REQUEST_TX_DURATION% %RESPONSE_DURATION% "
           "%RESPONSE_TX_DURATION%",
           "20 1 3 14 6");
    PRINTS(&s,
           "%COMMON_DURATION(DS_RX_BEG:DS_RX_END)% %COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)% "
           "%COMMON_DURATION(US_RX_BEG:US_RX_END:ns)% %COMMON_DURATION(DS_TX_END:DS_RX_BEG:ms)%",
           "1 2345 1000000 -");
    PRINTS(&s,
           "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% "
           "%DOWNSTREAM_LOCAL_PORT%",
           "127.0.0.1:18091 127.0.0.1 18091");
    PRINTS(&s,
           "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% "
           "%DOWNSTREAM_REMOTE_PORT%",
           "10.0.0.9:0 10.0.0.9 0");
    PRINTS(&s,
           "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% "
           "%DOWNSTREAM_DIRECT_REMOTE_PORT%",
           "[::1]:53978 ::1 53978");
    PRINTS(&s,
           "%UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_PORT% "
           "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
           "127.0.0.1:18090 127.0.0.1:55290 55290 127.0.0.1 18090");
    PRINTS(&s, "%UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%",
           "127.0.0.1:18090 127.0.0.1");
    PRINTS(&s,
           "%UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_REQUEST_ATTEMPT_COUNT% "
           "%CONNECTION_ID% %STREAM_ID%",
           "up up 1 7 id-1");
    PRINTS(&s,
           "%ROUTE_NAME% %VIRTUAL_CLUSTER_NAME% %FILTER_CHAIN_NAME% %ACCESS_LOG_TYPE% "
           "[%CUSTOM_FLAGS%]",
           "rn - - DownstreamEnd []");
    PRINTS(&s,
           "%PATH% %PATH(NQ)% %PATH(WQ:ORIG)% %PATH(NQ:PATH)% %PATH():3% %QUERY_PARAM(k)% "
           "%QUERY_PARAM(zz)% %QUERY_PARAM(k):1% %QUERY_PARAMS%",
           "/p?k=vv&k=2 /p /p?k=vv&k=2 /z/p /p? vv - v k=vv&k=2");
    PRINTS(&s, "%GRPC_STATUS% %GRPC_STATUS(NUMBER)%", "- -");
    PRINTS(&s, "%START_TIME% %START_TIME(%s.%3f)%", "2026-03-30T12:02:03.004Z 1774872123.004");
    story_end(&s);
}

static void values_that_are_not_there(void **state) {
    (void)state;
    struct story s;
    story_begin(&s, NULL);
    s.x.info.start_wall_ns = -1;
    PRINTS(&s,
           "%REQ(a)% %RESP(a)% %TRAILER(a)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %PATH% "
           "%QUERY_PARAMS%",
           "- - - 0 - - -");
    PRINTS(&s,
           "%UPSTREAM_HOST% %UPSTREAM_HOST_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_PROTOCOL% "
           "%DOWNSTREAM_REMOTE_PORT% %ROUTE_NAME% %STREAM_ID%",
           "- - - - - - -");
    PRINTS(&s,
           "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% "
           "%COMMON_DURATION(DS_RX_BEG:DS_TX_END)%",
           "- - - -");
    PRINTS(&s, "%START_TIME%", "1969-12-31T23:59:59.999Z");
    char *text = text_of(&s, "[%REQ(a)%%ROUTE_NAME%]", "");
    assert_string_equal(text, "[]");
    free(text);
    story_end(&s);
}

static void all_absent_is_told(void **state) {
    (void)state;
    struct story s;
    struct cfg_problems problems = {0};
    story_begin(&s, "GET /\nx-a: 1");
    static const struct {
        const char *format;
        bool absent;
    } cases[] = {{"a%REQ(x-b)%", true}, {"%REQ(x-a)%%REQ(x-b)%", false}, {"plain", true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct format *format = format_compile(span_of(cases[i].format), &here, &problems);
        struct format_out out = {0};
        bool absent = !cases[i].absent;
        const struct format_subject of = format_of_exchange(&s.x);
        format_write(format, &of, SPAN_LIT(""), &out, &absent);
        assert_int_equal(absent, cases[i].absent);
        free(out.data);
        format_free(format);
    }
    story_end(&s);
}

static void words_stay_words(void **state) {
    (void)state;
    struct story s;
    story_begin(&s, "GET /");
    s.x.info.response_code_details = SPAN_LIT("upstream reset{a b}\tc");
    s.x.info.upstream_transport_failure = SPAN_LIT("delayed connect error: 111");
    s.x.info.connection_termination_details = SPAN_LIT("as it is");
    PRINTS(&s, "%RESPONSE_CODE_DETAILS%", "upstream_reset{a_b}_c");
    PRINTS(&s, "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "upstream reset{a b}\tc");
    PRINTS(&s, "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "delayed_connect_error:_111");
    PRINTS(&s, "%CONNECTION_TERMINATION_DETAILS%", "as it is");
    story_end(&s);
}

static void grpc_status_comes_from_trailers_headers_or_http(void **state) {
    (void)state;
    struct story s;
    story_begin(&s, "POST /\ncontent-type: application/grpc+proto");
#define ALL                                                                                        \
    "%GRPC_STATUS% %GRPC_STATUS(CAMEL_STRING)% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% " \
    "%GRPC_STATUS_NUMBER%"
    PRINTS(&s, ALL, "- - - - -");
    s.x.info.response_code = 503;
    PRINTS(&s, ALL, "Unavailable Unavailable UNAVAILABLE 14 14");
    story_add(&s, &s.x.response.headers, "grpc-status: 1");
    PRINTS(&s, ALL, "Canceled Canceled CANCELLED 1 1");
    story_add(&s, &s.x.response.trailers, "grpc-status: 0");
    PRINTS(&s, ALL, "OK OK OK 0 0");
    story_end(&s);
    story_begin(&s, "POST /\ncontent-type: application/grpc");
    story_add(&s, &s.x.response.trailers, "grpc-status: 99");
    PRINTS(&s, ALL, "99 99 99 99 99");
    story_end(&s);
}

static void times_in_every_form(void **state) {
    (void)state;
    assert_int_equal(setenv("TZ", "America/New_York", 1), 0);
    tzset();
    struct story s;
    story_begin(&s, "GET /");
    s.x.info.start_wall_ns = 1795262363LL * NS_PER_S + 20473001;
    PRINTS(&s, "%START_TIME(%Y-%m-%d %H:%M:%S)%", "2026-11-21 11:59:23");
    PRINTS(&s, "%START_TIME(%f %1f %3f %6f %9f)%", "020473001 0 020 020473 020473001");
    PRINTS(&s, "%START_TIME(%s.%3f)%", "1795262363.020");
    PRINTS(&s, "%START_TIME(%Z %z %Ez %E*z %E4Y)%", "UTC +0000 +00:00 +00:00:00 2026");
    PRINTS(&s, "%START_TIME(%E3S|%E*S|%E3f|%E*f)%", "23.020|23.020473001|020|020473001");
    PRINTS(&s, "%START_TIME(%j %b %a %% %D %T %p)%", "325 Nov Sat % 11/21/26 11:59:23 AM");
    PRINTS(&s, "%START_TIME()%", "2026-11-21T11:59:23.020Z");
    PRINTS(&s, "%START_TIME_LOCAL%", "2026-11-21T06:59:23.020-0500");
    PRINTS(&s, "%START_TIME_LOCAL(%Z %z %Ez %H)%", "EST -0500 -05:00 06");
    s.x.info.start_wall_ns = 1795262363LL * NS_PER_S;
    PRINTS(&s, "%START_TIME(%E*S|%E*f)%", "23|");
    /* The calendar by itself against the C library's, over leap years and centuries. */
    for (int64_t day = -200000; day < 200000; day += 37) {
        s.x.info.start_wall_ns = day / 100 * 86400 * NS_PER_S;
        time_t seconds = (time_t)(day / 100 * 86400);
        struct tm tm;
        char expected[64];
        gmtime_r(&seconds, &tm);
        strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        PRINTS(&s, "%START_TIME%", expected);
    }
    story_end(&s);
}

static void fixed_values_are_read_once(void **state) {
    (void)state;
    struct story s;
    struct cfg_problems problems = {0};
    story_begin(&s, "GET /");
    assert_int_equal(setenv("SLUICE_FORMAT", "secret", 1), 0);
    PRINTS(&s,
           "%ENVIRONMENT(SLUICE_FORMAT)% %ENVIRONMENT(SLUICE_FORMAT):3% %ENVIRONMENT(SLUICE_NO)%",
           "secret sec -");
    struct format *format =
        format_compile(SPAN_LIT("%ENVIRONMENT(SLUICE_FORMAT)%"), &here, &problems);
    struct span literal;
    assert_true(format_is_literal(format, &literal));
    assert_true(span_eq(literal, SPAN_LIT("secret")));
    format_free(format);
    char *name = text_of(&s, "%HOSTNAME%", "-");
    assert_true(strlen(name) > 0);
    free(name);
    char *a = text_of(&s, "%UNIQUE_ID%", "-");
    char *b = text_of(&s, "%UNIQUE_ID%", "-");
    assert_int_equal(strlen(a), 36);
    assert_int_equal(a[14], '4');
    assert_string_not_equal(a, b);
    free(a);
    free(b);
    story_end(&s);
}

static void literals_are_known_as_such(void **state) {
    (void)state;
    struct cfg_problems problems = {0};
    struct span literal = span_none();
    struct format *format = format_compile(SPAN_LIT("a%%b"), &here, &problems);
    assert_true(format_is_literal(format, &literal));
    assert_true(span_eq(literal, SPAN_LIT("a%b")));
    format_free(format);
    format = format_compile(SPAN_LIT(""), &here, &problems);
    assert_true(format_is_literal(format, &literal));
    assert_int_equal(literal.len, 0);
    assert_false(span_is_none(literal));
    format_free(format);
    format = format_compile(SPAN_LIT("%PROTOCOL%"), &here, &problems);
    assert_false(format_is_literal(format, &literal));
    format_free(format);
}

static void dynamic_metadata_prints_as_json_unless_it_is_text(void **state) {
    struct story s;
    story_begin(&s, NULL);
    struct span filter = SPAN_LIT("f");
    PRINTS(&s, "%DYNAMIC_METADATA(f:text)%", "-");
    struct metadata *metadata = exchange_metadata(&s.x);
    struct cfg_value_field fields[] = {
        {SPAN_LIT("t"), {.kind = CFG_VALUE_STRING, .string = SPAN_LIT("a \"b\"")}},
        {SPAN_LIT("n"), {.kind = CFG_VALUE_NUMBER, .number = 0.5}},
        {SPAN_LIT("b"), {.kind = CFG_VALUE_BOOL, .boolean = true}},
    };
    struct cfg_value items[] = {{.kind = CFG_VALUE_NULL}, fields[1].value};
    struct cfg_value object = {.kind = CFG_VALUE_STRUCT, .fields = fields, .fields_count = 3};
    struct cfg_value list = {.kind = CFG_VALUE_LIST, .items = items, .items_count = 2};
    assert_int_equal(metadata_set_text(metadata, filter, SPAN_LIT("text"), SPAN_LIT("a \"b\"")), 0);
    assert_int_equal(metadata_set(metadata, filter, SPAN_LIT("object"), &object), 0);
    assert_int_equal(metadata_set(metadata, filter, SPAN_LIT("list"), &list), 0);
    PRINTS(&s, "%DYNAMIC_METADATA(f:text)%", "a \"b\"");
    PRINTS(&s, "%DYNAMIC_METADATA(f:text):3%", "a \"");
    PRINTS(&s, "%METADATA(DYNAMIC:f:object)%", "{\"t\":\"a \\\"b\\\"\",\"n\":0.5,\"b\":true}");
    PRINTS(&s, "%DYNAMIC_METADATA(f:object:n)% %DYNAMIC_METADATA(f:object:b)%", "0.5 true");
    PRINTS(&s, "%DYNAMIC_METADATA(f:list)%", "[null,0.5]");
    PRINTS(&s, "%DYNAMIC_METADATA(f:list):3%", "[nu");
    PRINTS(&s, "%DYNAMIC_METADATA(f:object:x)% %DYNAMIC_METADATA(g:text)%", "- -");
    struct cfg_problems problems = {0};
    struct cfg_value_field member = {
        SPAN_LIT("m"),
        {.kind = CFG_VALUE_STRING, .string = SPAN_LIT("%DYNAMIC_METADATA(f:object)%")}};
    struct cfg_value line = {.kind = CFG_VALUE_STRUCT, .fields = &member, .fields_count = 1};
    struct json_template *json = json_template_build(&line, false, &here, &problems);
    assert_non_null(json);
    struct format_out out = {0};
    const struct format_subject of = format_of_exchange(&s.x);
    json_template_write(json, &of, &out);
    format_out_put(&out, span_make("", 1));
    assert_string_equal(out.data, "{\"m\":{\"t\":\"a \\\"b\\\"\",\"n\":0.5,\"b\":true}}\n");
    free(out.data);
    json_template_free(json);
    metadata_unref(metadata);
    story_end(&s);
}

static void filter_state_prints_as_it_was_set(void **state) {
    struct story s;
    story_begin(&s, NULL);
    PRINTS(&s, "%FILTER_STATE(a.key:PLAIN)%", "-");
    struct filter_state *noted = exchange_filter_state(&s.x);
    const struct filter_state_object object = {.key = SPAN_LIT("a.key"), .text = SPAN_LIT("text")};
    assert_int_equal(filter_state_set(noted, NULL, &object), 0);
    PRINTS(&s, "%FILTER_STATE(a.key:PLAIN)% %FILTER_STATE(a.key):2% %FILTER_STATE(b)%",
           "text te -");
    filter_state_unref(noted);
    story_end(&s);
}

/* A connection without an exchange: what is about requests is absent. */
static void a_connection_has_values_too(void **state) {
    struct downstream d = {.id = 17};
    struct address peer, restored;
    assert_true(address_parse(SPAN_LIT("10.1.2.3"), 4567, &peer));
    assert_true(address_parse(SPAN_LIT("2001:db8::1"), 99, &restored));
    address_pack(&peer, &d.peer);
    struct connection_info info = {.server_name = SPAN_LIT("a.example")};
    d.info = &info;
    struct stream_info log = {.bytes_sent = 5, .flags = FLAG_NO_HEALTHY_UPSTREAM};
    const struct format_subject of = {.info = &log,
                                      .downstream = &d,
                                      .connection = &info,
                                      .event = FORMAT_EVENT_TCP_CONNECTION_END};
    static const char format[] = "%REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% "
                                 "%RESPONSE_FLAGS% %BYTES_SENT% "
                                 "%CONNECTION_ID% %REQUESTED_SERVER_NAME% %ACCESS_LOG_TYPE% "
                                 "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% "
                                 "%DOWNSTREAM_REMOTE_ADDRESS% %FILTER_STATE(sluice.flow_id)% "
                                 "%FILTER_STATE(sluice.src_port:PLAIN)% "
                                 "%FILTER_STATE(sluice.protocol)% %FILTER_STATE(other)%";
    struct cfg_problems problems = {0};
    struct format *compiled = format_compile(span_of(format), &here, &problems);
    assert_non_null(compiled);
    struct format_out out = {0};
    format_write(compiled, &of, SPAN_LIT("-"), &out, NULL);
    format_out_put(&out, SPAN_LIT("\n"));
    info.remote = &restored; /* a PROXY header, and the sniffer */
    info.flow_id = 12;
    info.protocol = SPAN_LIT("redis");
    format_write(compiled, &of, SPAN_LIT("-"), &out, NULL);
    format_out_put(&out, span_make("", 1));
    assert_string_equal(
        out.data, "- - 0 - UH 5 17 a.example TcpConnectionEnd 10.1.2.3:4567 10.1.2.3:4567 - - - -\n"
                  "- - 0 - UH 5 17 a.example TcpConnectionEnd 10.1.2.3:4567 [2001:db8::1]:99 12 99 "
                  "redis -");
    free(out.data);
    format_free(compiled);
}

static void mistakes_are_told_with_their_place(void **state) {
    (void)state;
#define NO_COMMAND(position) "format: couldn't find valid command at position " position " in "
    static const struct {
        const char *format;
        enum cfg_problem_kind kind;
        const char *text;
    } cases[] = {
        {"%NOSUCH%", CFG_PROBLEM_INVALID, "format: %NOSUCH% at position 0: no such operator"},
        {"abc %lower%", CFG_PROBLEM_INVALID, NO_COMMAND("4") "'abc %lower%'"},
        {"a%REQ(x", CFG_PROBLEM_INVALID, NO_COMMAND("1") "'a%REQ(x'"},
        {"100%", CFG_PROBLEM_INVALID, NO_COMMAND("3") "'100%'"},
        {"%REQ(a):-1%", CFG_PROBLEM_INVALID, NO_COMMAND("0") "'%REQ(a):-1%'"},
        {"%REQ(a):99999999999999999999999%", CFG_PROBLEM_INVALID,
         NO_COMMAND("0") "'%REQ(a):99999999999999999999999%'"},
        {"%REQ(a\nb)%", CFG_PROBLEM_INVALID, NO_COMMAND("0") "'%REQ(a\nb)%'"},
        {"%PROTOCOL(x)%", CFG_PROBLEM_INVALID,
         "format: %PROTOCOL% at position 0: does not take any parameters or length"},
        {"-%DURATION:5%", CFG_PROBLEM_INVALID,
         "format: %DURATION% at position 1: does not take any parameters or length"},
        {"%REQ%", CFG_PROBLEM_INVALID, "format: %REQ% at position 0: requires parameters"},
        {"%REQ()%", CFG_PROBLEM_INVALID, "format: %REQ% at position 0: requires parameters"},
        {"%REQ(a?b?c)%", CFG_PROBLEM_INVALID,
         "format: %REQ% at position 0: More than 1 alternative header specified"},
        {"%REQ(a b)%", CFG_PROBLEM_INVALID,
         "format: %REQ% at position 0: Invalid header configuration. Format string contains "
         "invalid characters."},
        {"%REQ(a)b)%", CFG_PROBLEM_INVALID,
         "format: %REQ% at position 0: Invalid header configuration. Format string contains "
         "invalid characters."},
        {"%START_TIME(%s):3%", CFG_PROBLEM_INVALID,
         "format: %START_TIME% at position 0: does not allow length to be specified."},
        {"%START_TIME(%n)%", CFG_PROBLEM_INVALID,
         "format: %START_TIME% at position 0: Invalid header configuration. Format string contains "
         "newline."},
        {"%START_TIME(a%-_3En)%", CFG_PROBLEM_INVALID,
         "format: %START_TIME% at position 0: Invalid header configuration. Format string contains "
         "newline."},
        {"%GRPC_STATUS(X)%", CFG_PROBLEM_INVALID,
         "format: %GRPC_STATUS% at position 0: GrpcStatusFormatter only supports CAMEL_STRING, "
         "SNAKE_STRING or NUMBER."},
        {"%COMMON_DURATION(a)%", CFG_PROBLEM_INVALID,
         "format: %COMMON_DURATION% at position 0: Invalid common duration configuration"},
        {"%COMMON_DURATION(a:b:c:d)%", CFG_PROBLEM_INVALID,
         "format: %COMMON_DURATION% at position 0: Invalid common duration configuration"},
        {"%COMMON_DURATION(DS_RX_BEG:DS_RX_END:xs)%", CFG_PROBLEM_INVALID,
         "format: %COMMON_DURATION% at position 0: Invalid common duration precision, ms, us or ns "
         "would be right"},
        {"%COMMON_DURATION(US_CX_BEG:DS_RX_END)%", CFG_PROBLEM_UNSUPPORTED,
         "format: %COMMON_DURATION% at position 0: the time point 'US_CX_BEG' is not supported"},
        {"%PATH(X)%", CFG_PROBLEM_INVALID,
         "format: %PATH% at position 0: Invalid PATH option, only 'WQ'/'NQ' are allowed"},
        {"%PATH(WQ:X)%", CFG_PROBLEM_INVALID,
         "format: %PATH% at position 0: Invalid PATH option, only 'ORIG'/'PATH'/'ORIG_OR_PATH' are "
         "allowed"},
        {"%METADATA(CLUSTER:a:b)%", CFG_PROBLEM_UNSUPPORTED,
         "format: %METADATA% at position 0: 'CLUSTER' is not supported; there is DYNAMIC"},
        {"%DYNAMIC_METADATA(:b)%", CFG_PROBLEM_INVALID,
         "format: %DYNAMIC_METADATA% at position 0: the metadata's namespace is missing"},
        {"%FILTER_STATE(a:FIELD)%", CFG_PROBLEM_INVALID,
         "format: %FILTER_STATE% at position 0: Invalid filter state serialize type, only support "
         "PLAIN/TYPED."},
        {"%CLUSTER_METADATA(a:b)%", CFG_PROBLEM_UNSUPPORTED,
         "format: %CLUSTER_METADATA% at position 0 is not supported"},
        {"x %DOWNSTREAM_PEER_CHAIN_SERIALS%", CFG_PROBLEM_UNSUPPORTED,
         "format: %DOWNSTREAM_PEER_CHAIN_SERIALS% at position 2 is not supported"},
        {"%UPSTREAM_LOCAL_DNS_SAN%", CFG_PROBLEM_UNSUPPORTED,
         "format: %UPSTREAM_LOCAL_DNS_SAN% at position 0 is not supported"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cfg_problems problems = {0};
        struct format *format = format_compile(span_of(cases[i].format), &here, &problems);
        if (format || problems.count != 1)
            fail_msg("%s: %zu problems", cases[i].format, problems.count);
        assert_string_equal(problems.items[0].text, cases[i].text);
        assert_int_equal(problems.items[0].kind, cases[i].kind);
        assert_int_equal(problems.items[0].mark.line, 7);
        cfg_problems_fini(&problems);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_a_proxied_request),
        cmocka_unit_test(values_that_are_not_there),
        cmocka_unit_test(all_absent_is_told),
        cmocka_unit_test(words_stay_words),
        cmocka_unit_test(grpc_status_comes_from_trailers_headers_or_http),
        cmocka_unit_test(times_in_every_form),
        cmocka_unit_test(fixed_values_are_read_once),
        cmocka_unit_test(literals_are_known_as_such),
        cmocka_unit_test(dynamic_metadata_prints_as_json_unless_it_is_text),
        cmocka_unit_test(filter_state_prints_as_it_was_set),
        cmocka_unit_test(a_connection_has_values_too),
        cmocka_unit_test(mistakes_are_told_with_their_place),
    };
    assert_int_equal(stats_init(1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
