/* test_proxy: this same executable, with a generated bootstrap, run by ext_host. So what is tested is what
 * will run: the same probe, the same host, the same errors.
 *
 *     filter-test ── -c FOLDER/bootstrap.json, --admin-address-path FOLDER/admin ──► the proxy
 *                 ◄── the admin's address in that file; its /listeners tells the ports
 *                 ◄── /stats: requests that are not over, panics, faults
 *
 * The folder is gone before the first case, so nothing is left behind however this ends.
 *
 * The file's name ends in .json because numbers of a YAML file reach plugins as texts where they have
 * fractions. */
#include "tool/test_proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/load.h"
#include "ext/host/ext_host_cause.h"
#include "tool/receiver.h"

enum {
    START_S = 120, /* a library's probe has a bound of its own; this is for a machine that hangs */
    LOOK_MS = 2,   /* between two looks at what is not told */
    LOG_MAX = 1 << 20, /* of one case */
    FOLDER_MAX = 256,
};

struct test_proxy {
    struct ext_host *host;
    uint16_t ports[2], admin_port;
    struct cfg_buf log;
    int notes; /* a file without a name; -1: none */
    off_t notes_at;
};

static const char hcm_type[] = "type.googleapis.com/envoy.extensions.filters.network."
                               "http_connection_manager.v3.HttpConnectionManager";
static const char options_type[] =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
static const char log_type[] =
    "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
static const char router_type[] =
    "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/* ---- the bootstrap ---- */

/* notes_path: NULL for no notes. */
static void put_log(struct cfg_buf *buf, const char *notes_path, const char *format) {
    if (!notes_path)
        return;
    cfg_buf_printf(buf,
                   "\"access_log\": [{\"name\": \"notes\", \"typed_config\": {\"@type\": "
                   "\"%s\", \"path\": ",
                   log_type);
    cfg_json_string(buf, span_of(notes_path));
    cfg_buf_printf(buf, ", \"log_format\": {\"json_format\": %s}}}], ", format);
}

static void put_listener(struct cfg_buf *buf, const char *name, const char *filter,
                         const char *notes_path, const char *notes_format) {
    cfg_buf_printf(buf,
                   "{\"name\": \"%s\", \"address\": {\"socket_address\": {\"address\": "
                   "\"127.0.0.1\", \"port_value\": 0}}, \"filter_chains\": [{\"filters\": "
                   "[{\"name\": \"hcm\", \"typed_config\": {\"@type\": \"%s\", ",
                   name, hcm_type);
    put_log(buf, notes_path, notes_format);
    cfg_buf_printf(buf,
                   "\"stat_prefix\": "
                   "\"%s\", \"generate_request_id\": false, \"http_protocol_options\": "
                   "{\"enable_trailers\": true}, \"route_config\": {\"name\": \"all\", "
                   "\"virtual_hosts\": [{\"name\": \"all\", \"domains\": [\"*\"], \"routes\": "
                   "[{\"match\": {\"prefix\": \"/\"}, \"route\": {\"cluster\": \"origin\", "
                   "\"timeout\": \"0s\"}}]}]}, \"http_filters\": [",
                   name);
    if (filter) {
        cfg_buf_text(buf, filter);
        cfg_buf_text(buf, ", ");
    }
    cfg_buf_printf(buf,
                   "{\"name\": \"router\", \"typed_config\": {\"@type\": \"%s\", "
                   "\"suppress_envoy_headers\": true}}]}}]}]}",
                   router_type);
}

/* Owned. The origin's connections serve one request each: which is whose is plain then. */
static char *make_bootstrap(const struct test_proxy_options *options, const char *notes_path) {
    struct cfg_buf buf = {0};
    cfg_buf_text(&buf, "{\"admin\": {\"address\": {\"socket_address\": {\"address\": "
                       "\"127.0.0.1\", \"port_value\": 0}}}, \"static_resources\": "
                       "{\"listeners\": [");
    put_listener(&buf, "filter", options->filter, notes_path, options->notes_format);
    cfg_buf_text(&buf, ", ");
    put_listener(&buf, "plain", NULL, NULL, NULL);
    cfg_buf_printf(&buf,
                   "], \"clusters\": [{\"name\": \"origin\", \"type\": \"STATIC\", "
                   "\"load_assignment\": {\"cluster_name\": \"origin\", \"endpoints\": "
                   "[{\"lb_endpoints\": [{\"endpoint\": {\"address\": {\"socket_address\": "
                   "{\"address\": \"127.0.0.1\", \"port_value\": %u}}}}]}]}, "
                   "\"typed_extension_protocol_options\": "
                   "{\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\": {\"@type\": "
                   "\"%s\", \"common_http_protocol_options\": {\"max_requests_per_connection\": "
                   "1}, \"explicit_http_config\": {\"http_protocol_options\": "
                   "{\"enable_trailers\": true}}}}}]}}",
                   options->origin_port, options_type);
    return cfg_buf_take(&buf);
}

/* ---- the folder ---- */

struct folder {
    char path[FOLDER_MAX];
    char bootstrap[FOLDER_MAX + 16], admin[FOLDER_MAX + 16], notes[FOLDER_MAX + 16];
};

static void remove_folder(const struct folder *folder) {
    (void)unlink(folder->bootstrap); /* what is not there need not go */
    (void)unlink(folder->admin);
    (void)unlink(folder->notes);
    (void)rmdir(folder->path);
}

/* 0 or -errno. */
static NOINLINE int make_folder(struct folder *folder) {
    const char *root = getenv("TMPDIR");
    int n = snprintf(folder->path, sizeof(folder->path), "%s/sluice-filter-test-XXXXXX",
                     root && *root ? root : "/tmp");
    if (n < 0 || (size_t)n >= sizeof(folder->path))
        return -ENAMETOOLONG;
    if (!mkdtemp(folder->path))
        return -errno;
    (void)snprintf(folder->bootstrap, sizeof(folder->bootstrap), "%s/bootstrap.json", folder->path);
    (void)snprintf(folder->admin, sizeof(folder->admin), "%s/admin", folder->path);
    (void)snprintf(folder->notes, sizeof(folder->notes), "%s/notes", folder->path);
    return 0;
}

/* 0 or -errno. */
static NOINLINE int write_bootstrap(const struct folder *folder, const char *bootstrap) {
    FILE *file = fopen(folder->bootstrap, "we");
    bool ok = file && fputs(bootstrap, file) >= 0;
    int err = ok ? 0 : -errno;
    if (file && fclose(file) != 0 && ok)
        err = -errno;
    return err;
}

/* 0 or -errno. The proxy appends to it, and it has no name any more when the first request comes. */
static NOINLINE int open_notes(struct test_proxy *proxy, const struct folder *folder) {
    proxy->notes = open(folder->notes, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    return proxy->notes < 0 ? -errno : 0;
}

static int make_files(struct test_proxy *proxy, const struct test_proxy_options *options,
                      struct folder *folder) {
    int err = make_folder(folder);
    if (err)
        return err;
    if (options->notes_format)
        err = open_notes(proxy, folder);
    char *bootstrap = make_bootstrap(options, options->notes_format ? folder->notes : NULL);
    if (err == 0)
        err = bootstrap ? write_bootstrap(folder, bootstrap) : -ENOMEM;
    free(bootstrap);
    if (err)
        remove_folder(folder);
    return err;
}

/* 0 while it is not written. */
static uint16_t read_admin_port(const struct folder *folder) {
    char text[64] = "";
    FILE *file = fopen(folder->admin, "re");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    (void)fclose(file); /* it was only read */
    const char *colon = strrchr(text, ':');
    return colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
}

/* ---- what it tells ---- */

static void keep_log(void *arg, struct span bytes) {
    struct test_proxy *proxy = arg;
    size_t room = LOG_MAX - proxy->log.len;
    cfg_buf_add(&proxy->log, bytes.ptr, bytes.len < room ? bytes.len : room);
}

struct span test_proxy_log(const struct test_proxy *proxy) {
    return cfg_buf_view(&proxy->log);
}

void test_proxy_forget_log(struct test_proxy *proxy) {
    proxy->log.len = 0;
    if (proxy->notes >= 0)
        proxy->notes_at = lseek(proxy->notes, 0, SEEK_END);
}

struct span test_proxy_notes(struct test_proxy *proxy, struct cfg_arena *arena) {
    struct cfg_buf buf = {.arena = arena};
    char bytes[4096];
    ssize_t n;
    off_t at = proxy->notes_at;
    while (proxy->notes >= 0 && (n = pread(proxy->notes, bytes, sizeof(bytes), at)) > 0) {
        cfg_buf_add(&buf, bytes, (size_t)n);
        at += n;
    }
    return cfg_buf_view(&buf);
}

uint16_t test_proxy_port(const struct test_proxy *proxy, enum test_listener which) {
    return proxy->ports[which];
}

int test_proxy_poll(struct test_proxy *proxy, struct pollfd *fds, unsigned count,
                    int64_t deadline_ns) {
    return ext_host_poll(proxy->host, fds, count, deadline_ns);
}

/* -errno, or a connected socket. */
static NOINLINE int connect_to(uint16_t port) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    int err = -errno;
    if (fd >= 0)
        (void)close(fd); /* nothing was sent */
    return err;
}

static NOINLINE int ask(struct test_proxy *proxy, int fd, const char *path, struct receiver *reply,
                        int64_t deadline_ns) {
    char bytes[4096];
    int n = snprintf(bytes, sizeof(bytes), "GET %s HTTP/1.1\r\nhost: admin\r\n\r\n", path);
    if (send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
        return -EPIPE;
    while (!reply->is_done && !reply->bad) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        int ready = test_proxy_poll(proxy, &one, 1, deadline_ns);
        if (ready <= 0)
            return ready ? ready : -ETIMEDOUT;
        ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
        if (count <= 0)
            return -EPIPE;
        receiver_take(reply, span_make(bytes, (size_t)count));
    }
    return reply->bad ? -EPROTO : 0;
}

/* A page of the admin, into the arena. */
static int get_page(struct test_proxy *proxy, struct cfg_arena *arena, const char *path,
                    struct span *out, int64_t deadline_ns) {
    struct receiver reply;
    int fd = connect_to(proxy->admin_port);
    if (fd < 0)
        return -EPIPE;
    receiver_init(&reply, arena, MESSAGE_RESPONSE, SPAN_LIT("GET"));
    int err = ask(proxy, fd, path, &reply, deadline_ns);
    *out = reply.message.body;
    receiver_fini(&reply);
    (void)close(fd); /* the answer is read */
    return err;
}

/* The number behind the last `separator` of each line that starts so and ends with so. Their sum. */
static uint64_t sum_lines(struct span page, struct span start, struct span end, char separator) {
    uint64_t sum = 0;
    struct span line;
    while (span_next_token(&page, '\n', &line)) {
        const char *at = line.len ? memrchr(line.ptr, separator, line.len) : NULL;
        if (!at)
            continue;
        uint64_t value;
        struct span name = span_make(line.ptr, (size_t)(at - line.ptr));
        if (span_starts_with(name, start) && span_ends_with(name, end) &&
            span_to_u64(span_trim(span_from(line, name.len + 1)), &value))
            sum += value;
    }
    return sum;
}

int test_proxy_look(struct test_proxy *proxy, int64_t deadline_ns, struct test_proxy_state *out) {
    struct cfg_arena arena;
    struct span page;
    cfg_arena_init(&arena, NULL);
    int err = get_page(proxy, &arena, "/stats?filter=downstream_rq_active%7Cpanics%7Cfaults", &page,
                       deadline_ns);
    if (err == 0)
        *out = (struct test_proxy_state){
            .active =
                sum_lines(page, SPAN_LIT("http.filter."), SPAN_LIT(".downstream_rq_active"), ':'),
            .panics = sum_lines(page, SPAN_LIT("golang.plugin."), SPAN_LIT(".panics"), ':'),
            .faults = sum_lines(page, SPAN_LIT("native."), SPAN_LIT(".faults"), ':')};
    cfg_arena_fini(&arena);
    return err;
}

/* ---- start and end ---- */

static int await_ports(struct test_proxy *proxy, const struct folder *folder, int64_t deadline_ns) {
    struct cfg_arena arena;
    int err = 0;
    cfg_arena_init(&arena, NULL);
    while (!err && !(proxy->ports[TEST_WITH_FILTER] && proxy->ports[TEST_WITHOUT])) {
        struct span page;
        err = test_proxy_poll(proxy, NULL, 0, clock_mono_ns() + LOOK_MS * NS_PER_MS);
        if (!err && clock_mono_ns() > deadline_ns)
            err = -ETIMEDOUT;
        if (!err && !proxy->admin_port)
            proxy->admin_port = read_admin_port(folder);
        if (err || !proxy->admin_port)
            continue;
        err = get_page(proxy, &arena, "/ready", &page, deadline_ns);
        if (err || !span_starts_with(page, SPAN_LIT("LIVE")))
            continue;
        err = get_page(proxy, &arena, "/listeners", &page, deadline_ns);
        if (err)
            continue;
        proxy->ports[TEST_WITH_FILTER] =
            (uint16_t)sum_lines(page, SPAN_LIT("filter::"), SPAN_LIT("127.0.0.1"), ':');
        proxy->ports[TEST_WITHOUT] =
            (uint16_t)sum_lines(page, SPAN_LIT("plain::"), SPAN_LIT("127.0.0.1"), ':');
    }
    cfg_arena_fini(&arena);
    return err;
}

/* What the proxy says of its configuration, which nobody wrote: the place is cut down to the part that the
 * filter's author knows. Owned. */
static char *refusal(struct span output, const struct folder *folder) {
    static const struct span entry = SPAN_INIT("http_filters[0]");
    struct cfg_buf text = {0};
    struct span file = span_of(folder->bootstrap), line;
    while (span_next_token(&output, '\n', &line)) {
        if (span_starts_with(line, file)) {
            const char *at = memmem(line.ptr, line.len, entry.ptr, entry.len);
            size_t skipped = at ? (size_t)(at - line.ptr) + entry.len : file.len + 1;
            line = span_from(line, skipped);
            if (line.len && line.ptr[0] == '.')
                line = span_from(line, 1);
        }
        cfg_buf_span(&text, line);
        cfg_buf_byte(&text, '\n');
    }
    return cfg_buf_take(&text);
}

static void free_proxy(struct test_proxy *proxy) {
    ext_host_free(proxy->host);
    cfg_buf_fini(&proxy->log);
    if (proxy->notes >= 0)
        (void)close(proxy->notes); /* it was only read */
    free(proxy);
}

static char *say(const char *format, const char *what) {
    char *text = NULL;
    return asprintf(&text, format, what) < 0 ? NULL : text;
}

/* Ended, it told why; or it crashed. */
static char *why_not_started(struct test_proxy *proxy, const struct folder *folder, int err) {
    if (err != -EPIPE)
        return say("the proxy does not start: %s", strerror(-err));
    ext_host_end(proxy->host, EXT_HOST_KILL);
    int status = ext_host_status(proxy->host);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        return refusal(ext_host_output(proxy->host), folder);
    return ext_host_cause(ext_host_output(proxy->host), status, 0);
}

struct test_proxy *test_proxy_start(const struct test_proxy_options *options, char **why) {
    static const char *const environment[] = {"GOTRACEBACK=all", NULL};
    struct folder folder;
    struct test_proxy *proxy = calloc(1, sizeof(*proxy));
    int err = -ENOMEM;
    if (proxy) {
        proxy->notes = -1;
        err = make_files(proxy, options, &folder);
    }
    if (err) {
        *why = say("the proxy's configuration cannot be written: %s", strerror(-err));
        if (proxy)
            free_proxy(proxy);
        return NULL;
    }
    const char *flags[] = {"-c",
                           folder.bootstrap,
                           "--admin-address-path",
                           folder.admin,
                           "-l",
                           options->log_level,
                           "--concurrency",
                           "2",
                           "--drain-time-s",
                           "1",
                           "--file-flush-interval-msec",
                           "1",
                           options->no_probe ? "--no-probe" : NULL,
                           NULL};
    const struct ext_host_options host = {
        .environment = environment, .flags = flags, .on_output = keep_log, .arg = proxy};
    err = ext_host_start(&host, &proxy->host);
    if (err) {
        *why = say("the proxy does not start: %s", strerror(-err));
    } else {
        err = await_ports(proxy, &folder, clock_mono_ns() + START_S * NS_PER_S);
        if (err)
            *why = why_not_started(proxy, &folder, err);
    }
    remove_folder(&folder);
    if (err) {
        free_proxy(proxy);
        return NULL;
    }
    return proxy;
}

char *test_proxy_cause(struct test_proxy *proxy, int64_t stuck_ms) {
    ext_host_end(proxy->host, stuck_ms ? EXT_HOST_DUMP : EXT_HOST_ASK);
    return ext_host_cause(ext_host_output(proxy->host), ext_host_status(proxy->host), stuck_ms);
}

bool test_proxy_end(struct test_proxy *proxy, char **why) {
    ext_host_end(proxy->host, EXT_HOST_ASK);
    bool in_peace = ext_host_status(proxy->host) == 0;
    if (!in_peace && why)
        *why = ext_host_cause(ext_host_output(proxy->host), ext_host_status(proxy->host), 0);
    free_proxy(proxy);
    return in_peace;
}
