/* Access logs from the config to the file. */
#include "route_story.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stats.h"
#include "proxy/access_log_internal.h"

static void log_line(struct access_log *log, struct exchange *x) {
    const struct format_subject of = format_of_exchange(x);
    access_log_write(log, &of);
}

/* ---- building ---- */

struct log_story {
    char dir[64];
    char path[128];
    struct config *config;
    struct access_log *log;
    struct story story;
};

static char *config_text(const char *type, const char *members) {
    char *text = NULL;
    assert_true(asprintf(&text,
                         "static_resources:\n"
                         "  listeners:\n"
                         "  - address: {socket_address: {address: 127.0.0.1, port_value: 1}}\n"
                         "    filter_chains:\n"
                         "    - filters:\n"
                         "      - name: hcm\n"
                         "        typed_config:\n"
                         "          '@type': type.googleapis.com/envoy.extensions.filters.network."
                         "http_connection_manager.v3.HttpConnectionManager\n"
                         "          stat_prefix: x\n"
                         "          route_config: {}\n"
                         "          http_filters: [{name: r, typed_config: {'@type': type."
                         "googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]\n"
                         "          access_log:\n"
                         "          - name: log\n"
                         "            typed_config: {'@type': type.googleapis.com/"
                         "envoy.extensions.access_loggers.%s%s}\n",
                         type, members) > 0);
    return text;
}

/* NULL, and the first problem's text in *problem (malloc memory), when it is refused. */
static struct access_log *build(const char *type, const char *members, struct config **config,
                                char **problem) {
    struct cfg_problems problems = {0};
    char *text = config_text(type, members);
    int rc = config_load_text(SPAN_LIT("test.yaml"), span_of(text), span_none(), config, &problems);
    free(text);
    if (rc < 0)
        cfg_problems_print(&problems, stderr);
    assert_int_equal(rc, 0);
    const struct cfg_filter *filter =
        &config_bootstrap(*config)->static_resources->listeners[0].filter_chains[0].filters[0];
    const struct cfg_hcm *hcm = filter->typed_config.message;
    struct access_log *log = access_log_build(&hcm->access_log[0], &problems);
    assert_true((log == NULL) == cfg_problems_refuse(&problems));
    if (!log) {
        assert_int_equal(problems.items[0].mark.line, 14);
        *problem = strdup(problems.items[0].text);
    }
    cfg_problems_fini(&problems);
    return log;
}

/* The same for a log that is in order. */
static struct access_log *build_good(const char *type, const char *members,
                                     struct config **config) {
    char *problem = NULL;
    struct access_log *log = build(type, members, config, &problem);
    if (!log)
        fail_msg("%s", problem);
    free(problem);
    return log;
}

/* A log to a file of its own; members may be "". */
static void log_begin(struct log_story *s, const char *members) {
    memset(s, 0, sizeof(*s));
    strcpy(s->dir, "/tmp/sluice-log-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/access.log", s->dir);
    char all[4096];
    snprintf(all, sizeof(all), ", path: %s%s", s->path, members);
    s->log = build_good("file.v3.FileAccessLog", all, &s->config);
    story_begin(&s->story, "GET /p?q=1\nx-q: q\"\\\tz\nx-u: \xc3\xa9\xe2\x82\xac\nx-bad: \xff\xc3"
                           "a\x80");
    struct stream_info *info = &s->story.x.info;
    info->protocol = 1;
    info->start_wall_ns = 1774872123LL * NS_PER_S + 4 * NS_PER_MS;
    info->start_ns = 1;
    info->end_ns = 1 + 12 * NS_PER_MS;
    info->response_code = 200;
    info->bytes_received = 3;
    info->bytes_sent = 365;
    info->downstream_local = SPAN_LIT("127.0.0.1:80");
}

static void log_end(struct log_story *s) {
    access_log_free(s->log);
    access_log_flush_all();
    config_unref(s->config);
    story_end(&s->story);
    (void)unlink(s->path);
    (void)rmdir(s->dir);
}

/* The file's content; valid until the next call. */
static const char *content(const char *path) {
    static char text[1 << 16];
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    (void)close(fd);
    return text;
}

static void check_line(const char *members, const char *expected) {
    struct log_story s;
    log_begin(&s, members);
    log_line(s.log, &s.story.x);
    access_log_flush_all();
    assert_string_equal(content(s.path), expected);
    log_end(&s);
}

/* ---- formats ---- */

static void the_default_format_is_envoys(void **state) {
    (void)state;
    check_line("",
               "[2026-03-30T12:02:03.004Z] \"GET /p?q=1 HTTP/1.1\" 200 - 3 365 12 - \"-\" \"-\" "
               "\"-\" \"a.com\" \"-\"\n");
}

static void text_formats_add_nothing(void **state) {
    (void)state;
    check_line(", log_format: {text_format_source: {inline_string: '%REQ(x-no)%|%RESPONSE_CODE%'}}",
               "-|200");
    check_line(", log_format: {text_format_source: {inline_string: "
               "\"%REQ(x-no)%|%RESPONSE_CODE%\\n\"}, omit_empty_values: true}",
               "|200\n");
    check_line(", log_format: {text_format: \"%BYTES_SENT%\\n\"}", "365\n");
    check_line(", format: \"%BYTES_RECEIVED%\\n\"", "3\n");
}

static void a_format_can_come_from_a_file(void **state) {
    (void)state;
    char path[] = "/tmp/sluice-format-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "%BYTES_SENT% from a file\n", 25), 25);
    (void)close(fd);
    char members[256];
    snprintf(members, sizeof(members), ", log_format: {text_format_source: {filename: %s}}", path);
    check_line(members, "365 from a file\n");
    assert_int_equal(unlink(path), 0);
}

#define JSON                                                                                       \
    "json_format: {st: '%START_TIME%', code: '%RESPONSE_CODE%', port: '%DOWNSTREAM_LOCAL_PORT%', " \
    "absent: '%REQ(x-no)%', mixed: 'a%REQ(x-no)%b%RESPONSE_CODE%', lit: plain, pct: '100%%', "     \
    "quote: '%REQ(x-q)%', two: '%REQ(x-q)% %REQ(x-u)%', uni: '%REQ(x-u)%', bad: '%REQ(x-bad)%', "  \
    "n1: 1, b: true, nul: null, "                                                                  \
    "lst: ['%RESPONSE_CODE%', x, null, 1, '%REQ(x-no)%'], obj: {z: '%REQ(x-no)%', a: "             \
    "'%BYTES_SENT%'}, "                                                                            \
    "obj2: {z: '%REQ(x-no)%'}, empty: {}, el: [], \"k\\\"ey\\n\": "                                \
    "\"v\\\"\\\\\\x01/\\u00e9\\x7f\"}"

/* Both lines are Envoy's for the same config and request. */
static void json_keeps_types_and_sorts_keys(void **state) {
    (void)state;
    check_line(
        ", log_format: {" JSON "}",
        "{\"absent\":null,\"b\":true,\"bad\":\"\\u00ff\\u00c3a\\u0080\",\"code\":200,\"el\":[],"
        "\"empty\":{},\"k\\\"ey\\n\":\"v\\\"\\\\\\u0001/\xc3\xa9\x7f\",\"lit\":\"plain\","
        "\"lst\":[200,\"x\",null,1,null],\"mixed\":\"a-b200\",\"n1\":1,"
        "\"nul\":null,\"obj\":{\"a\":365,\"z\":null},"
        "\"obj2\":{\"z\":null},\"pct\":\"100%\",\"port\":80,\"quote\":\"q\\\"\\\\\\tz\","
        "\"st\":\"2026-03-30T12:02:03.004Z\",\"two\":\"q\\\"\\\\\\tz \xc3\xa9\xe2\x82\xac\","
        "\"uni\":\"\xc3\xa9\xe2\x82\xac\"}\n");
    check_line(
        ", log_format: {omit_empty_values: true, " JSON "}",
        "{\"b\":true,\"bad\":\"\\u00ff\\u00c3a\\u0080\",\"code\":200,\"el\":[],"
        "\"k\\\"ey\\n\":\"v\\\"\\\\\\u0001/\xc3\xa9\x7f\",\"lit\":\"plain\",\"lst\":[200,\"x\",1],"
        "\"mixed\":\"ab200\",\"n1\":1,"
        "\"obj\":{\"a\":365},\"pct\":\"100%\",\"port\":80,\"quote\":\"q\\\"\\\\\\tz\","
        "\"st\":\"2026-03-30T12:02:03.004Z\",\"two\":\"q\\\"\\\\\\tz \xc3\xa9\xe2\x82\xac\","
        "\"uni\":\"\xc3\xa9\xe2\x82\xac\"}\n");
    check_line(", json_format: {b: '%RESPONSE_CODE%', a: '%REQ(nope)%'}",
               "{\"a\":null,\"b\":200}\n");
    check_line(", log_format: {omit_empty_values: true, json_format: {z: '%REQ(x-no)%'}}", "{}\n");
}

static void numbers_are_written_as_short_as_they_read_back(void **state) {
    (void)state;
    static const struct {
        double number;
        const char *text;
    } cases[] = {{2.5, "2.5"},
                 {1e20, "1e+20"},
                 {-0.1, "-0.1"},
                 {1234567890123.0, "1234567890123"},
                 {0, "0"},
                 {-7, "-7"},
                 {1.0 / 3, "0.3333333333333333"},
                 {1e-9, "1e-09"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cfg_value_field field = {
            .key = SPAN_LIT("n"), .value = {.kind = CFG_VALUE_NUMBER, .number = cases[i].number}};
        struct cfg_value value = {.kind = CFG_VALUE_STRUCT, .fields = &field, .fields_count = 1};
        struct cfg_problems problems = {0};
        struct cfg_mark mark = {0};
        struct json_template *json = json_template_build(&value, false, &mark, &problems);
        assert_non_null(json);
        struct story story;
        struct format_out out = {0};
        story_begin(&story, NULL);
        const struct format_subject of = format_of_exchange(&story.x);
        json_template_write(json, &of, &out);
        char expected[64];
        snprintf(expected, sizeof(expected), "{\"n\":%s}\n", cases[i].text);
        format_out_put(&out, span_make("", 1));
        assert_string_equal(out.data, expected);
        free(out.data);
        story_end(&story);
        json_template_free(json);
    }
}

/* Depth is bounded: the writer recurses on a coroutine's stack. */
static void json_is_not_nested_too_deep(void **state) {
    (void)state;
    struct cfg_value values[80];
    struct cfg_value_field field = {.key = SPAN_LIT("deep")};
    memset(values, 0, sizeof(values));
    for (int i = 0; i < 79; i++) {
        values[i].kind = CFG_VALUE_LIST;
        values[i].items = &values[i + 1];
        values[i].items_count = 1;
    }
    values[79].kind = CFG_VALUE_BOOL;
    field.value = values[0];
    struct cfg_value root = {.kind = CFG_VALUE_STRUCT, .fields = &field, .fields_count = 1};
    struct cfg_problems problems = {0};
    struct cfg_mark mark = {0};
    assert_null(json_template_build(&root, false, &mark, &problems));
    assert_string_equal(problems.items[0].text, "json_format: nested deeper than 64 levels");
    cfg_problems_fini(&problems);
}

static void refused(const char *members, const char *expected) {
    struct config *config = NULL;
    char *problem = NULL;
    struct access_log *log = build("file.v3.FileAccessLog", members, &config, &problem);
    assert_null(log);
    assert_string_equal(problem, expected);
    free(problem);
    config_unref(config);
}

static void mistakes_are_problems(void **state) {
    (void)state;
    refused(", path: /nonexist/x", "unable to open file '/nonexist/x': No such file or directory");
    refused(", path: /dev/null, log_format: {json_format: {a: {b: ['x %NOSUCH%']}}}",
            "format: %NOSUCH% at position 2: no such operator");
    refused(", path: /dev/null, log_format: {text_format_source: {filename: /nonexist}}",
            "text_format_source: /nonexist: No such file or directory");
    char dir[] = "/tmp/sluice-fifo-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    char members[128];
    char expected[256];
    snprintf(members, sizeof(members), ", path: %s", path);
    snprintf(expected, sizeof(expected), "unable to open file '%s': No such device or address",
             path);
    refused(members, expected); /* nobody reads it: waiting would hang the server */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* ---- the way to the file ---- */

static void lines_appear_within_a_second_or_so(void **state) {
    (void)state;
    struct log_story s;
    log_begin(&s, ", format: \"line\\n\"");
    int64_t start = clock_mono_ns();
    log_line(s.log, &s.story.x);
    while (strlen(content(s.path)) == 0) {
        assert_true(clock_mono_ns() - start < 30 * NS_PER_S);
        (void)poll(NULL, 0, 10);
    }
    assert_true(clock_mono_ns() - start > NS_PER_S / 2); /* and are buffered until then */
    assert_string_equal(content(s.path), "line\n");
    log_end(&s);
}

/* False: the second in which a buffer that is not full waits was over before, which says nothing. */
static bool a_full_buffer_is_seen_in_time(void) {
    struct log_story s;
    log_begin(
        &s,
        ", format: \"0123456789012345678901234567890123456789012345678901234567890123456789\\n\"");
    int64_t start = clock_mono_ns();
    for (int i = 0; i < 1000; i++)
        log_line(s.log, &s.story.x);
    struct stat st = {0};
    bool in_time = true;
    while (st.st_size < 64 * 1024 && in_time) {
        assert_int_equal(stat(s.path, &st), 0);
        in_time = clock_mono_ns() - start < 900 * NS_PER_MS;
        (void)poll(NULL, 0, 1);
    }
    access_log_flush_all();
    assert_int_equal(stat(s.path, &st), 0);
    assert_int_equal(st.st_size, 71000);
    log_end(&s);
    return in_time;
}

static void a_full_buffer_does_not_wait(void **state) {
    (void)state;
    int tries = 1;
    while (!a_full_buffer_is_seen_in_time())
        assert_true(tries++ < 20); /* on a busy machine */
}

static void a_reopened_log_goes_on_in_a_new_file(void **state) {
    (void)state;
    struct log_story s;
    char moved[160];
    log_begin(&s, ", format: \"%CONNECTION_ID%\\n\"");
    snprintf(moved, sizeof(moved), "%s.1", s.path);
    s.story.x.info.connection_id = 1;
    log_line(s.log, &s.story.x);
    assert_int_equal(rename(s.path, moved), 0);
    access_log_reopen_all();
    access_log_flush_all();
    s.story.x.info.connection_id = 2;
    log_line(s.log, &s.story.x);
    access_log_flush_all();
    assert_string_equal(content(moved), "1\n"); /* what was logged before went where it belonged */
    assert_string_equal(content(s.path), "2\n");
    assert_int_equal(unlink(moved), 0);
    log_end(&s);
}

static int64_t count(const char *name) {
    return stat_value(stats_get(STAT_COUNTER, span_of(name), span_of(name), NULL, 0));
}

static void a_failed_reopen_keeps_the_old_file(void **state) {
    (void)state;
    struct log_story s;
    char moved[160];
    log_begin(&s, ", format: \"x\\n\"");
    snprintf(moved, sizeof(moved), "%s.1", s.path);
    assert_int_equal(rename(s.path, moved), 0);
    assert_int_equal(mkdir(s.path, 0700), 0);
    int64_t failed = count("filesystem.reopen_failed");
    access_log_reopen_all();
    access_log_flush_all();
    assert_int_equal(count("filesystem.reopen_failed"), failed + 1);
    log_line(s.log, &s.story.x);
    access_log_flush_all();
    assert_string_equal(content(moved), "x\n");
    assert_int_equal(rmdir(s.path), 0);
    assert_int_equal(unlink(moved), 0);
    log_end(&s);
}

static void logs_of_one_path_share_the_file(void **state) {
    (void)state;
    struct log_story s;
    log_begin(&s, ", format: \"one\\n\"");
    char members[256];
    struct config *config = NULL;
    snprintf(members, sizeof(members), ", path: %s, format: \"two\\n\"", s.path);
    struct access_log *two = build_good("file.v3.FileAccessLog", members, &config);
    log_line(s.log, &s.story.x);
    log_line(two, &s.story.x);
    access_log_free(two); /* its line is written though nobody waits for it */
    log_line(s.log, &s.story.x);
    access_log_flush_all();
    assert_string_equal(content(s.path), "one\ntwo\none\n");
    config_unref(config);
    log_end(&s);
}

static void a_write_that_fails_is_counted(void **state) {
    (void)state;
    struct config *config = NULL;
    struct access_log *log = build_good("file.v3.FileAccessLog", ", path: /dev/full", &config);
    struct story story;
    story_begin(&story, "GET /");
    int64_t failed = count("filesystem.write_failed");
    log_line(log, &story.x);
    access_log_flush_all();
    assert_int_equal(count("filesystem.write_failed"), failed + 1);
    story_end(&story);
    access_log_free(log);
    access_log_flush_all();
    config_unref(config);
}

enum { WRITERS = 4, LINES = 20000 };

struct writer {
    struct log_story *log;
    unsigned shard;
};

static void *write_lines(void *arg) {
    struct writer *writer = arg;
    struct story story;
    story_begin(&story, "GET /");
    story.x.shard = writer->shard;
    story.x.info.connection_id = writer->shard;
    for (unsigned i = 0; i < LINES; i++) {
        story.x.info.stream_id = i;
        story.x.info.bytes_sent = i;
        log_line(writer->log->log, &story.x);
    }
    story_end(&story);
    return NULL;
}

static void lines_of_all_ps_are_whole_and_in_order(void **state) {
    (void)state;
    struct log_story s;
    log_begin(&s, ", format: \"%CONNECTION_ID% %BYTES_SENT%\\n\"");
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){&s, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    access_log_flush_all();
    FILE *in = fopen(s.path, "r");
    assert_non_null(in);
    unsigned next[WRITERS] = {0};
    unsigned shard, number;
    while (fscanf(in, "%u %u\n", &shard, &number) == 2) {
        assert_true(shard < WRITERS);
        assert_int_equal(number, next[shard]);
        next[shard]++;
    }
    assert_true(feof(in));
    fclose(in);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(next[i], LINES);
    log_end(&s);
}

static void a_reader_that_stops_costs_lines_and_not_the_p(void **state) {
    (void)state;
    /* 18 MB: more than a buffer may hold, and another that the writer, if late, has taken full. */
    enum { LINE = 1000, COUNT = 18000 };
    char dir[] = "/tmp/sluice-fifo-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDWR | O_NONBLOCK);
    assert_true(reader >= 0);
    char members[LINE + 128];
    int len = snprintf(members, sizeof(members), ", path: %s, format: \"", path);
    memset(members + len, 'x', LINE - 1);
    strcpy(members + len + LINE - 1, "\\n\"");
    struct config *config = NULL;
    char *problem = NULL;
    struct access_log *log = build("file.v3.FileAccessLog", members, &config, &problem);
    assert_non_null(log);
    struct story story;
    story_begin(&story, "GET /");
    int64_t failed = count("filesystem.write_failed");
    int64_t start = clock_mono_ns();
    for (int i = 0; i < COUNT; i++)
        log_line(log, &story.x);
    assert_true(clock_mono_ns() - start < 30 * NS_PER_S);
    int64_t dropped = count("filesystem.write_failed") - failed;
    assert_true(dropped > 0);
    access_log_flush_all(); /* gives up after its two seconds: the process could end */
    assert_true(clock_mono_ns() - start < 60 * NS_PER_S);

    static char buf[1 << 16];
    size_t total = 0;
    size_t column = 0;
    while (total < (size_t)(COUNT - dropped) * LINE) {
        struct pollfd wait = {.fd = reader, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 5000), 1);
        ssize_t n = read(reader, buf, sizeof(buf));
        for (ssize_t i = 0; i < n; i++, column = (column + 1) % LINE)
            assert_int_equal(buf[i], column == LINE - 1 ? '\n' : 'x'); /* whole lines only */
        total += n > 0 ? (size_t)n : 0;
    }
    story_end(&story);
    access_log_free(log);
    access_log_flush_all();
    (void)close(reader);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    config_unref(config);
}

static void standard_streams_are_written(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int fd;
    } cases[] = {{"stream.v3.StdoutAccessLog", STDOUT_FILENO},
                 {"stream.v3.StderrAccessLog", STDERR_FILENO}};
    for (int i = 0; i < 2; i++) {
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0); /* as some parents hand it down */
        int saved = dup(cases[i].fd);
        assert_int_equal(dup2(ends[1], cases[i].fd), cases[i].fd);
        struct config *config = NULL;
        struct access_log *log = build_good(
            cases[i].type,
            ", log_format: {text_format_source: {inline_string: \"%RESPONSE_CODE%\\n\"}}", &config);
        struct story story;
        story_begin(&story, "GET /");
        story.x.info.response_code = 204;
        log_line(log, &story.x);
        access_log_flush_all();
        assert_int_equal(dup2(saved, cases[i].fd), cases[i].fd);
        char text[8] = "";
        assert_int_equal(read(ends[0], text, sizeof(text) - 1), 4);
        assert_string_equal(text, "204\n");
        story_end(&story);
        access_log_free(log);
        access_log_flush_all();
        config_unref(config);
        (void)close(saved);
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_format_is_envoys),
        cmocka_unit_test(text_formats_add_nothing),
        cmocka_unit_test(a_format_can_come_from_a_file),
        cmocka_unit_test(json_keeps_types_and_sorts_keys),
        cmocka_unit_test(numbers_are_written_as_short_as_they_read_back),
        cmocka_unit_test(json_is_not_nested_too_deep),
        cmocka_unit_test(mistakes_are_problems),
        cmocka_unit_test(lines_appear_within_a_second_or_so),
        cmocka_unit_test(a_full_buffer_does_not_wait),
        cmocka_unit_test(a_reopened_log_goes_on_in_a_new_file),
        cmocka_unit_test(a_failed_reopen_keeps_the_old_file),
        cmocka_unit_test(logs_of_one_path_share_the_file),
        cmocka_unit_test(a_write_that_fails_is_counted),
        cmocka_unit_test(lines_of_all_ps_are_whole_and_in_order),
        cmocka_unit_test(a_reader_that_stops_costs_lines_and_not_the_p),
        cmocka_unit_test(standard_streams_are_written),
    };
    assert_int_equal(stats_init(WRITERS), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
