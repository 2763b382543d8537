#include "supervise/kept_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct kept_socket *find(const struct kept_sockets *kept, const char *key, uint32_t number) {
    for (size_t i = 0; i < kept->count; i++)
        if (kept->all[i].number == number && strcmp(kept->all[i].key, key) == 0)
            return &kept->all[i];
    return NULL;
}

static int take(struct kept_sockets *kept, struct kept_socket *socket) {
    int fd = socket->fd;
    *socket = kept->all[--kept->count];
    return fd;
}

static void drop(struct kept_sockets *kept, struct kept_socket *socket) {
    (void)close(take(kept, socket)); /* nothing was sent on it */
}

static int add(struct kept_sockets *kept, const struct kept_socket *socket) {
    if (kept->count == kept->room) {
        size_t room = kept->room ? 2 * kept->room : 16;
        struct kept_socket *all = realloc(kept->all, room * sizeof *all);
        if (!all)
            return -ENOMEM;
        kept->all = all;
        kept->room = room;
    }
    kept->all[kept->count++] = *socket;
    return 0;
}

int kept_sockets_use(struct kept_sockets *kept, const char *key, uint32_t number, int fd,
                     uint64_t generation) {
    struct kept_socket *known = find(kept, key, number);
    if (!known && fd < 0)
        return -ENOENT;
    if (!known) {
        struct kept_socket made = {
            .number = number, .fd = fd, .made_by = generation, .used_by = generation};
        memccpy(made.key, key, '\0', sizeof made.key);
        int err = add(kept, &made);
        if (err < 0)
            (void)close(fd);
        return err;
    }
    if (fd >= 0) { /* it could not use the one that was kept */
        (void)close(known->fd);
        known->fd = fd;
        known->made_by = generation;
    }
    known->used_by = generation;
    return 0;
}

int kept_sockets_take(struct kept_sockets *kept, const char *key, uint32_t number) {
    struct kept_socket *known = find(kept, key, number);
    return known ? take(kept, known) : -ENOENT;
}

void kept_sockets_close(struct kept_sockets *kept, const char *key, uint32_t number) {
    struct kept_socket *known = find(kept, key, number);
    if (known)
        drop(kept, known);
}

/* From the end: what drop moves into a gap has been looked at. */
void kept_sockets_retain(struct kept_sockets *kept, uint64_t generation) {
    for (size_t i = kept->count; i-- > 0;)
        if (kept->all[i].used_by != generation)
            drop(kept, &kept->all[i]);
}

void kept_sockets_undo(struct kept_sockets *kept, uint64_t generation) {
    for (size_t i = kept->count; i-- > 0;)
        if (kept->all[i].made_by == generation)
            drop(kept, &kept->all[i]);
}

void kept_sockets_clear(struct kept_sockets *kept) {
    while (kept->count)
        drop(kept, &kept->all[kept->count - 1]);
    free(kept->all);
    *kept = (struct kept_sockets){0};
}
