/* sandbox_options: one message carries all options: numbers in the low and the high half of its numbers, each list as one text
 * whose items end in a NUL. The host process reads them back before it has loaded anything, so it believes
 * what it reads. */
#include "ext/remote/sandbox_options.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ext/host/ext_host.h"
#include "ext/remote/sandbox_seccomp.h"

enum { MAY_EXEC = 1, RESTRICTS_FILES = 2, CHANGES_USER = 4 }; /* flags */
enum { SECCOMP_SHIFT = 8, LANDLOCK_SHIFT = 16 };

static_assert(SANDBOX_DENY == (int)CFG_SECCOMP_DENY && SANDBOX_AUDIT == (int)CFG_SECCOMP_AUDIT &&
                  SANDBOX_FREE == (int)CFG_SECCOMP_NONE,
              "the configuration's numbers are ours");
static_assert(SANDBOX_WHERE_NEEDED == (int)CFG_LANDLOCK_WHERE_NEEDED &&
                  SANDBOX_REQUIRED == (int)CFG_LANDLOCK_REQUIRED &&
                  SANDBOX_IF_AVAILABLE == (int)CFG_LANDLOCK_IF_AVAILABLE &&
                  SANDBOX_WITHOUT == (int)CFG_LANDLOCK_NONE,
              "the configuration's numbers are ours");

bool sandbox_options_from(const struct cfg_sandbox *cfg BORROWED_BY(out),
                          struct span library_path BORROWED_BY(out), struct sandbox_options *out,
                          char said[SANDBOX_SAID_MAX]) {
    static const struct cfg_sandbox none;
    struct sock_filter program[SANDBOX_PROGRAM_MAX];
    cfg = cfg ? cfg : &none;
    const struct sandbox_options options = {
        .seccomp = (enum sandbox_seccomp)cfg->seccomp,
        .allow_exec = cfg->allow_exec,
        .allowed_calls = {cfg->allow_syscalls, cfg->allow_syscalls_count},
        .landlock = (enum sandbox_landlock)cfg->landlock,
        .restricts_files = cfg->restrict_files,
        .read_paths = {cfg->read_paths, cfg->read_paths_count},
        .write_paths = {cfg->write_paths, cfg->write_paths_count},
        .library_path = library_path,
        .memory_limit_bytes = cfg->memory_limit_bytes.value,
        .max_open_files = cfg->max_open_files.value,
        .max_threads = cfg->max_threads.value,
        .changes_user = cfg->uid.set,
        .uid = cfg->uid.value,
        .gid = cfg->gid.value,
    };
    if (sandbox_program(&options, program, said) == 0)
        return false;
    *out = options;
    return true;
}

/* ---- to the host process ---- */

static uint64_t halves(uint32_t low, uint32_t high) {
    return low | (uint64_t)high << 32;
}

static size_t list_size(struct sandbox_list list) {
    size_t size = 0;
    for (size_t i = 0; i < list.count; i++)
        size += list.items[i].len + 1;
    return size;
}

static struct span pack_list(struct sandbox_list list, char **at) {
    char *first = *at;
    for (size_t i = 0; i < list.count; i++) {
        memcpy(*at, list.items[i].ptr, list.items[i].len);
        *at += list.items[i].len;
        *(*at)++ = '\0';
    }
    return span_make(first, (size_t)(*at - first));
}

/* Borrows from options and from *memory, which the caller frees. */
static int pack(const struct sandbox_options *options, struct ext_host_message *request,
                char **memory) {
    char *at = *memory = malloc(list_size(options->allowed_calls) + list_size(options->read_paths) +
                                list_size(options->write_paths) + 1);
    if (!at)
        return -ENOMEM;
    uint32_t flags = (options->allow_exec ? MAY_EXEC : 0) |
                     (options->restricts_files ? RESTRICTS_FILES : 0) |
                     (options->changes_user ? CHANGES_USER : 0);
    flags |= (uint32_t)options->seccomp << SECCOMP_SHIFT;
    flags |= (uint32_t)options->landlock << LANDLOCK_SHIFT;
    *request = (struct ext_host_message){
        .kind = EXT_HOST_SANDBOX,
        .numbers = {flags, options->memory_limit_bytes,
                    halves(options->max_open_files, options->max_threads),
                    halves(options->uid, options->gid)},
        .texts = {options->library_path},
    };
    request->texts[1] = pack_list(options->allowed_calls, &at);
    request->texts[2] = pack_list(options->read_paths, &at);
    request->texts[3] = pack_list(options->write_paths, &at);
    return 0;
}

/* Behind the struct: the lists, then all bytes. */
struct keep {
    struct span *spans;
    char *bytes;
};

static size_t bytes_of(const struct sandbox_list *list) {
    size_t bytes = 0;
    for (size_t i = 0; i < list->count; i++)
        bytes += list->items[i].len;
    return bytes;
}

static struct span keep_text(struct keep *to, struct span text) {
    char *copy = to->bytes;
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    to->bytes += text.len;
    return span_is_none(text) ? text : span_make(copy, text.len);
}

static void keep_list(struct keep *to, struct sandbox_list *list) {
    struct span *copy = to->spans;
    to->spans += list->count;
    for (size_t i = 0; i < list->count; i++)
        copy[i] = keep_text(to, list->items[i]);
    list->items = copy;
}

struct sandbox_options *sandbox_options_copy(const struct sandbox_options *options) {
    const struct sandbox_list *lists[] = {&options->allowed_calls, &options->read_paths,
                                          &options->write_paths};
    size_t spans = 0, bytes = options->library_path.len;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        spans += lists[i]->count;
        bytes += bytes_of(lists[i]);
    }
    struct sandbox_options *copy = malloc(sizeof *copy + spans * sizeof(struct span) + bytes);
    if (!copy)
        return NULL;
    struct keep to = {(struct span *)(copy + 1), (char *)((struct span *)(copy + 1) + spans)};
    *copy = *options;
    keep_list(&to, &copy->allowed_calls);
    keep_list(&to, &copy->read_paths);
    keep_list(&to, &copy->write_paths);
    copy->library_path = keep_text(&to, options->library_path);
    return copy;
}

int sandbox_options_send(const struct sandbox_options *options, struct ext_host *host,
                         int64_t deadline_ns, char said[SANDBOX_SAID_MAX]) {
    struct ext_host_message request, answer;
    char *memory;
    said[0] = '\0';
    int err = pack(options, &request, &memory);
    if (!err)
        err = ext_host_call(host, &request, &answer, deadline_ns);
    free(memory);
    if (err)
        return err;
    (void)snprintf(said, SANDBOX_SAID_MAX, "%.*s", (int)answer.texts[0].len, answer.texts[0].ptr);
    return answer.numbers[0] == 1 ? 0 : -EPERM;
}

/* ---- in the host process ---- */

/* Into items, of which there are SANDBOX_LIST_MAX. */
static struct sandbox_list unpack_list(struct span text, struct span *items) {
    struct sandbox_list list = {items, 0};
    ptrdiff_t len;
    for (; (len = span_find(text, '\0')) >= 0; text = span_from(text, (size_t)len + 1)) {
        ASSERT(list.count < SANDBOX_LIST_MAX);
        items[list.count++] = span_make(text.ptr, (size_t)len);
    }
    return list;
}

void sandbox_options_serve(const struct ext_host_message *request, struct ext_host_message *answer,
                           char **memory) {
    struct span calls[SANDBOX_LIST_MAX], reads[SANDBOX_LIST_MAX], writes[SANDBOX_LIST_MAX];
    static const int kept[] = {EXT_HOST_FD};
    uint32_t flags = (uint32_t)request->numbers[0];
    const struct sandbox_options options = {
        .seccomp = (enum sandbox_seccomp)(flags >> SECCOMP_SHIFT & 0xff),
        .allow_exec = flags & MAY_EXEC,
        .allowed_calls = unpack_list(request->texts[1], calls),
        .landlock = (enum sandbox_landlock)(flags >> LANDLOCK_SHIFT & 0xff),
        .restricts_files = flags & RESTRICTS_FILES,
        .read_paths = unpack_list(request->texts[2], reads),
        .write_paths = unpack_list(request->texts[3], writes),
        .library_path = request->texts[0],
        .memory_limit_bytes = request->numbers[1],
        .max_open_files = (uint32_t)request->numbers[2],
        .max_threads = (uint32_t)(request->numbers[2] >> 32),
        .changes_user = flags & CHANGES_USER,
        .uid = (uid_t)request->numbers[3],
        .gid = (gid_t)(request->numbers[3] >> 32),
    };
    char *said = *memory = calloc(1, SANDBOX_SAID_MAX);
    if (!said)
        return; /* zeros: nothing was given up */
    answer->numbers[0] = sandbox_enter(&options, kept, 1, said) == 0;
    answer->texts[0] = span_of(said);
}
