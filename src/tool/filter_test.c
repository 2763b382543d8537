/* filter_test: the cases in a row, in one proxy as long as that lives. A filter keeps state between requests (a rate
 * limit), so cases may build on each other; one that kills the proxy ends, and the next has a fresh one.
 *
 *     for each case:  the messages without the filter ──► what is the proxy's doing
 *                     the same with it, repeat times  ──► what is the filter's: the difference, the checks
 *
 * Where somebody leaves early there is nothing to compare: how far the bytes came is chance. */
#include "tool/filter_test.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/load.h"
#include "config/schema.h"
#include "ext/go/go_elf.h"
#include "tool/filter_test_options.h"
#include "tool/test_notes.h"
#include "tool/test_report.h"

enum { NOT_TRIED = 2, LOG_WAIT_MS = 1000 /* for a line that a goroutine writes at its leisure */ };

struct filter_test {
    const struct filter_test_options *options;
    struct config *file, *plugin_config; /* each or NULL */
    const struct test_case *cases;
    size_t count, failed;
    struct test_case single;
    char *filter;       /* JSON */
    char *notes_format; /* JSON, or NULL: no case asks for notes */
    int origin;
    uint16_t origin_port;
    struct test_proxy *proxy; /* NULL: there is none now */
    bool was_loaded;
    uint64_t panics, faults; /* of this proxy, told already */
};

bool filter_test_is_asked(int argc, char **argv) {
    return argc >= 2 && strcmp(argv[1], "filter-test") == 0;
}

/* ---- what is tested ---- */

static const struct cfg_schema *struct_schema(void) {
    return cfg_well_known_find(SPAN_LIT("google.protobuf.Struct"));
}

/* A file that is one object. NULL, and its problems told. *keep: what it is borrowed from. */
static const struct cfg_value *load_object(const char *path, struct config **keep) {
    struct cfg_problems problems = {0};
    const struct config_source source = {.path = path};
    int err = config_load_as(struct_schema(), &source, keep, NULL, &problems);
    cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    return err ? NULL : *(struct cfg_value *const *)config_root(*keep);
}

static bool has_type(const struct cfg_value *object) {
    for (size_t i = 0; i < object->fields_count; i++)
        if (span_eq(object->fields[i].key, SPAN_LIT("@type")))
            return true;
    return false;
}

static void put_object(struct cfg_buf *buf, const struct cfg_value *object) {
    char *json = cfg_to_json(struct_schema(), &object, 0);
    cfg_buf_text(buf, json ? json : "{}");
    free(json);
}

/* Whole: a bare name would be looked for by the loader. */
static void put_path(struct cfg_buf *buf, const char *library) {
    char *path = realpath(library, NULL);
    cfg_json_string(buf, span_of(path ? path : library));
    free(path);
}

/* An entry of http_filters for a Go filter. config: NULL for none. */
static char *make_go_filter(const char *library, struct span plugin,
                            const struct cfg_value *config) {
    struct cfg_buf buf = {0};
    cfg_buf_text(&buf, "{\"name\": \"filter\", \"typed_config\": {\"@type\": \"type.googleapis.com/"
                       "envoy.extensions.filters.http.golang.v3alpha.Config\", \"library_id\": "
                       "\"filter_test\", \"library_path\": ");
    put_path(&buf, library);
    cfg_buf_text(&buf, ", \"plugin_name\": ");
    cfg_json_string(&buf, plugin);
    if (config) {
        bool is_any = has_type(config);
        cfg_buf_text(&buf, ", \"plugin_config\": ");
        if (!is_any)
            cfg_buf_text(&buf, "{\"@type\": \"type.googleapis.com/xds.type.v3.TypedStruct\", "
                               "\"value\": ");
        put_object(&buf, config);
        cfg_buf_text(&buf, is_any ? "" : "}");
    }
    cfg_buf_text(&buf, "}}");
    return cfg_buf_take(&buf);
}

/* An entry for a filter in C. */
static char *make_native_filter(const char *library, const struct cfg_value *config) {
    struct cfg_buf buf = {0};
    /* Each case may fault: none is spared for what the ones before it did. */
    cfg_buf_text(&buf, "{\"name\": \"filter\", \"typed_config\": {\"@type\": \"type.googleapis.com/"
                       "sluice.filters.http.native.v3.Native\", \"max_faults\": 0, "
                       "\"library_path\": ");
    put_path(&buf, library);
    if (config) {
        cfg_buf_text(&buf, ", \"config\": ");
        put_object(&buf, config);
    }
    cfg_buf_text(&buf, "}}");
    return cfg_buf_take(&buf);
}

/* False: what is wrong was told. */
static bool choose_filter(struct filter_test *t, const struct test_file *file) {
    const struct filter_test_options *o = t->options;
    const struct cfg_value *config = file ? file->config : NULL;
    const char *path = o->filter_path ? o->filter_path : o->config_path;
    if (path && !(config = load_object(path, &t->plugin_config)))
        return false;
    if (o->filter_path) {
        struct cfg_buf buf = {0};
        put_object(&buf, config);
        t->filter = cfg_buf_take(&buf);
        return t->filter != NULL;
    }
    struct span plugin = o->plugin ? span_of(o->plugin) : file ? file->plugin : span_none();
    if (go_elf_defines(o->library, SPAN_LIT("sluice_plugin"))) {
        if (plugin.len) {
            fprintf(stderr,
                    "sluice filter-test: %s is a filter in C and not a library of several: leave "
                    "the name of a plugin out\n",
                    o->library);
            return false;
        }
        t->filter = make_native_filter(o->library, config);
        return t->filter != NULL;
    }
    if (!plugin.len) {
        fputs("sluice filter-test: no plugin is named: a library of Go filters does not tell the "
              "names of its plugins; use --plugin NAME, or `plugin: NAME` in the cases file\n",
              stderr);
        return false;
    }
    t->filter = make_go_filter(o->library, plugin, config);
    return t->filter != NULL;
}

static struct span text_or_none(const char *text) {
    return text ? span_of(text) : span_none();
}

/* The one case that the command line describes. */
static void make_single(struct filter_test *t, struct cfg_arena *arena) {
    const struct filter_test_options *o = t->options;
    struct test_case *one = &t->single;
    *one = (struct test_case){.name = text_or_none(o->request_path),
                              .request_file = text_or_none(o->request_path),
                              .response_file = text_or_none(o->response_path)};
    if (o->chunk_bytes.set) {
        uint32_t *size = cfg_alloc(arena, sizeof(*size));
        *size = o->chunk_bytes.value;
        one->request_chunks = one->response_chunks = size;
        one->request_chunks_count = one->response_chunks_count = 1;
    }
    if (o->delay_ms.set)
        one->request_delay = one->response_delay =
            (struct cfg_duration){true, o->delay_ms.value * NS_PER_MS};
    if (o->abort_after_request.set || o->abort_after_response.set) {
        one->abort = cfg_alloc(arena, sizeof(*one->abort));
        *one->abort = (struct test_abort){.after_request_bytes = o->abort_after_request,
                                          .after_response_bytes = o->abort_after_response};
    }
    t->cases = one;
    t->count = 1;
}

/* All of them are read before the first runs: a slip in the last is told at once. */
static bool read_cases(struct filter_test *t, struct cfg_arena *arena,
                       struct test_messages *messages) {
    struct cfg_problems problems = {0};
    bool ok = true;
    for (size_t i = 0; i < t->count; i++)
        ok &= test_case_read(arena, &t->cases[i], &messages[i], &problems);
    cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    return ok;
}

static const struct test_file *load_file(struct filter_test *t) {
    struct cfg_problems problems = {0};
    int err = test_file_load(t->options->cases_path, &t->file, &problems);
    cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    if (err)
        return NULL;
    const struct test_file *file = config_root(t->file);
    t->cases = file->cases;
    t->count = file->cases_count;
    return file;
}

/* ---- running ---- */

static NOINLINE int open_origin(struct filter_test *t) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    t->origin = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (t->origin < 0 || bind(t->origin, (struct sockaddr *)&at, len) < 0 ||
        listen(t->origin, SOMAXCONN) < 0 ||
        getsockname(t->origin, (struct sockaddr *)&at, &len) < 0)
        return -errno;
    t->origin_port = ntohs(at.sin_port);
    return 0;
}

static bool start_proxy(struct filter_test *t, char **why) {
    const struct test_proxy_options options = {.filter = t->filter,
                                               .log_level = t->options->log_level,
                                               .origin_port = t->origin_port,
                                               .notes_format = t->notes_format,
                                               .no_probe = t->was_loaded};
    t->panics = t->faults = 0;
    t->proxy = test_proxy_start(&options, why);
    t->was_loaded |= t->proxy != NULL;
    return t->proxy != NULL;
}

static void drop_proxy(struct filter_test *t) {
    if (t->proxy)
        (void)test_proxy_end(t->proxy, NULL); /* why it is no more has been told */
    t->proxy = NULL;
}

/* It is of no more use: tells why, as a failure of the case. */
static void tell_loss(struct filter_test *t, struct test_report *report, const char *what,
                      int64_t stuck_ms) {
    char *cause = test_proxy_cause(t->proxy, stuck_ms);
    test_report_failure(report, "%s%s", what, cause ? cause : "ended");
    free(cause);
    drop_proxy(t);
}

static int64_t timeout_ns(const struct filter_test *t, const struct test_case *test) {
    return test->timeout.set ? test->timeout.ns : t->options->timeout_ms * NS_PER_MS;
}

static bool tell_verdict(struct filter_test *t, struct test_report *report,
                         enum test_verdict verdict, int64_t limit_ns) {
    if (verdict == EXCHANGE_OVER)
        return true;
    tell_loss(t, report,
              verdict == EXCHANGE_HELD
                  ? "the request is over, but the filter does not let go of it: it "
                  : "the filter ",
              verdict == EXCHANGE_LOST ? 0 : limit_ns / NS_PER_MS);
    return false;
}

static bool has_logged(const struct filter_test *t, const struct test_case *test) {
    struct span log = test_proxy_log(t->proxy);
    const struct test_expect *expect = test->expect;
    for (size_t i = 0; expect && i < expect->log_contains_count; i++)
        if (!memmem(log.ptr, log.len, expect->log_contains[i].ptr, expect->log_contains[i].len))
            return false;
    return true;
}

/* The backtrace of a fault is written by another thread. */
static bool has_backtrace(const struct filter_test *t) {
    struct span log = test_proxy_log(t->proxy);
    return memmem(log.ptr, log.len, "  #0 ", 5) != NULL;
}

/* Up to what is expected of it, which may come late; and what there is. */
static void await_log(struct filter_test *t, const struct test_case *test, bool has_faulted) {
    int64_t deadline_ns = clock_mono_ns() + LOG_WAIT_MS * NS_PER_MS;
    int err = test_proxy_poll(t->proxy, NULL, 0, clock_mono_ns());
    while (!err && (!has_logged(t, test) || (has_faulted && !has_backtrace(t))) &&
           clock_mono_ns() < deadline_ns)
        err = test_proxy_poll(t->proxy, NULL, 0, clock_mono_ns() + NS_PER_MS);
}

/* A request's notes come when it is over, by a thread that writes them. */
static bool await_notes(struct filter_test *t, const struct test_report *report,
                        uint16_t client_port, struct cfg_arena *arena, struct cfg_value *out) {
    int64_t deadline_ns = clock_mono_ns() + t->options->timeout_ms * NS_PER_MS;
    int err = 0;
    while (!test_notes_find(test_proxy_notes(t->proxy, report->arena), client_port, arena, out)) {
        if (err || clock_mono_ns() >= deadline_ns)
            return false;
        err = test_proxy_poll(t->proxy, NULL, 0, clock_mono_ns() + NS_PER_MS);
    }
    return true;
}

static void run_once(struct filter_test *t, struct test_report *report,
                     const struct test_plan *plan, const struct test_result *without,
                     bool is_first) {
    struct test_result with;
    test_proxy_forget_log(t->proxy);
    enum test_verdict verdict = test_exchange_run(t->proxy, report->arena, plan, &with);
    if (verdict == EXCHANGE_OVER)
        await_log(t, plan->test, with.faults > t->faults);
    struct span log = test_proxy_log(t->proxy);
    if (is_first && verdict == EXCHANGE_OVER)
        test_report_changes(report, without, &with);
    if (t->options->is_verbose)
        test_report_log(report, log);
    if (!tell_verdict(t, report, verdict, plan->timeout_ns))
        return;
    if (with.panics > t->panics || with.faults > t->faults) {
        test_report_failure(report, with.panics > t->panics ? "the filter panicked:"
                                                            : "the filter faulted:");
        if (!t->options->is_verbose)
            test_report_log(report, log);
        t->panics = with.panics;
        t->faults = with.faults;
    }
    test_report_checks(report, plan->test, &with, log);
    if (test_notes_are_expected(plan->test->expect)) {
        struct cfg_arena arena;
        struct cfg_value notes;
        bool told = await_notes(t, report, with.client_port, &arena, &notes);
        test_report_notes(report, plan->test->expect, told ? &notes : NULL);
        if (told)
            cfg_arena_fini(&arena);
    }
}

static void run_in_proxy(struct filter_test *t, struct test_report *report,
                         const struct test_case *test, const struct test_messages *messages) {
    struct test_plan plan = {.test = test,
                             .messages = messages,
                             .listener = TEST_WITHOUT,
                             .plainly = true,
                             .origin = t->origin,
                             .timeout_ns = timeout_ns(t, test)};
    struct test_result without;
    if (!test->abort &&
        !tell_verdict(t, report, test_exchange_run(t->proxy, report->arena, &plan, &without),
                      plan.timeout_ns))
        return;
    plan.listener = TEST_WITH_FILTER;
    plan.plainly = false;
    uint32_t times = test->repeat.set ? test->repeat.value : 1;
    for (uint32_t i = 0; i < times && !report->failed; i++) {
        struct cfg_arena arena;
        char *text = NULL;
        size_t size;
        cfg_arena_init(&arena, NULL);
        struct test_report once = *report;
        once.arena = &arena;
        once.out = open_memstream(&text, &size);
        ASSERT(once.out != NULL);
        run_once(t, &once, &plan, test->abort ? NULL : &without, i == 0);
        (void)fclose(once.out); /* into memory */
        if (i > 0 && once.failed)
            fprintf(report->out, "  the %u. time:\n", i + 1);
        if (i == 0 || once.failed)
            fputs(text, report->out);
        report->failed = once.failed;
        free(text);
        cfg_arena_fini(&arena);
    }
}

static void run_case(struct filter_test *t, const struct test_case *test,
                     const struct test_messages *messages) {
    struct cfg_arena arena;
    char *text = NULL, *why = NULL;
    size_t size;
    cfg_arena_init(&arena, NULL);
    struct test_report report = {
        .arena = &arena, .out = open_memstream(&text, &size), .has_colours = isatty(1) == 1};
    ASSERT(report.out != NULL);
    if (t->proxy || start_proxy(t, &why))
        run_in_proxy(t, &report, test, messages);
    else
        test_report_failure(&report, "%s", why ? why : "the proxy does not start");
    (void)fclose(report.out); /* into memory */
    t->failed += report.failed;
    if (report.failed || !t->options->is_quiet)
        printf("%s %.*s\n%s", report.failed ? "FAIL" : "pass", (int)test->name.len, test->name.ptr,
               text);
    (void)fflush(stdout); /* a case that hangs later should not hide this one */
    free(text);
    free(why);
    cfg_arena_fini(&arena);
}

static int run_all(struct filter_test *t, const struct test_messages *messages) {
    char *why = NULL;
    if (!start_proxy(t, &why)) {
        fprintf(stderr, "sluice filter-test: the filter cannot be loaded:\n%s\n",
                why ? why : "memory is short");
        free(why);
        return 1;
    }
    for (size_t i = 0; i < t->count; i++)
        run_case(t, &t->cases[i], &messages[i]);
    bool ended_well = !t->proxy || test_proxy_end(t->proxy, &why);
    t->proxy = NULL;
    if (!ended_well)
        printf("FAIL the proxy's end: it %s\n", why ? why : "is no more");
    free(why);
    printf("%zu cases, %zu failed\n", t->count, t->failed);
    return t->failed || !ended_well ? 1 : 0;
}

int filter_test_main(int argc, char **argv) {
    struct filter_test_options options;
    int code = filter_test_options_parse(argc, argv, &options);
    if (code >= 0)
        return code;
    struct filter_test t = {.options = &options, .origin = -1};
    struct cfg_arena arena;
    const struct test_file *file = NULL;
    cfg_arena_init(&arena, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader of our output that leaves is an error of printf */
    code = NOT_TRIED;
    if (options.cases_path)
        file = load_file(&t);
    else
        make_single(&t, &arena);
    if (file || !options.cases_path) {
        struct test_messages *messages = cfg_alloc_array(&arena, t.count, sizeof(*messages));
        bool ready = choose_filter(&t, file);
        ready = read_cases(&t, &arena, messages) && ready;
        int err = ready ? open_origin(&t) : 0;
        t.notes_format = ready ? test_notes_format(t.cases, t.count) : NULL;
        if (err)
            fprintf(stderr, "sluice filter-test: no port for the origin: %s\n", strerror(-err));
        else if (ready)
            code = run_all(&t, messages);
    }
    if (t.origin >= 0)
        (void)close(t.origin); /* it only listened */
    free(t.filter);
    free(t.notes_format);
    config_unref(t.file);
    config_unref(t.plugin_config);
    cfg_arena_fini(&arena);
    return code;
}
