/* ext_host_main: the host process. It does as it is told, one request after the other, on its first thread, so
 * that a stuck or dead library is seen by whoever asked. It trusts its parent and nothing that it
 * loads: no runtime of coroutines, no listener, no secret is here.
 *
 * It ends when the socket does. The kernel ends it with the thread that started it as well, because a
 * library may keep the first thread busy for ever. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stats.h"
#include "ext/host/ext_host.h"
#include "ext/host/ext_host_inbox.h"
#include "ext/go/go_lent.h"
#include "ext/remote/sandbox_options.h"

bool ext_host_is_asked(int argc, char **argv) {
    return argc >= 2 && strcmp(argv[1], "--ext-host") == 0;
}

static NOINLINE int answer_with(const struct ext_host_message *answer) {
    size_t size;
    char *bytes = ext_host_encode(answer, &size);
    size_t sent = 0;
    while (bytes && sent < size) {
        ssize_t n = send(EXT_HOST_FD, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    free(bytes);
    return bytes && sent == size;
}

NOINLINE int ext_host_prepare(void) {
    int type;
    socklen_t len = sizeof(type);
    if (getsockopt(EXT_HOST_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        fputs("sluice: --ext-host is for the proxy itself: it starts such a process to try a "
              "library in\n",
              stderr);
        return -EINVAL;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fcntl(EXT_HOST_FD, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    /* What dies here is expected to, and its cause is told: no core dump. */
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core); /* lowering is always allowed */
    return 0;
}

void ext_host_set_log_level(uint64_t level) {
    log_set_level(level < LOG_WARN    ? LOG_WARN
                  : level > LOG_ERROR ? LOG_ERROR
                                      : (enum log_level)level);
}

int ext_host_make_up(struct header_map *headers) {
    static const struct {
        enum header_id id;
        struct span name, value;
    } fields[] = {
        {HDR_METHOD, SPAN_INIT(":method"), SPAN_INIT("GET")},
        {HDR_SCHEME, SPAN_INIT(":scheme"), SPAN_INIT("http")},
        {HDR_AUTHORITY, SPAN_INIT(":authority"), SPAN_INIT("probe.invalid")},
        {HDR_PATH, SPAN_INIT(":path"), SPAN_INIT("/")},
    };
    int err = 0;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && !err; i++)
        err = header_add(headers, fields[i].id, fields[i].name, fields[i].value);
    return err;
}

int ext_host_main(void) {
    if (ext_host_prepare() != 0 || stats_init(1) != 0 || go_lent_init() != 0)
        return 2;
    struct ext_host_inbox inbox = {0};
    struct ext_host_message request;
    while (ext_host_inbox_next(&inbox, &request)) {
        struct ext_host_message answer = {.kind = EXT_HOST_ANSWER};
        char *memory = NULL;
        if (request.kind == EXT_HOST_SANDBOX)
            sandbox_options_serve(&request, &answer, &memory);
        else if (request.kind >= EXT_HOST_NATIVE_LOAD)
            ext_host_serve_native(&request, &answer, &memory);
        else
            ext_host_serve_go(&request, &answer, &memory);
        int sent = answer_with(&answer);
        free(memory);
        if (!sent)
            break;
    }
    /* Not exit(): destructors would run under the threads of Go libraries. */
    _exit(0);
}
