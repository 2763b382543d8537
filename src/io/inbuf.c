#include "io/inbuf.h"

#include <errno.h>

/* Beyond a block room comes in small steps, so that what follows a large head still fits a block. */
enum { STEP = 8 * 1024 };

void inbuf_init(struct inbuf *buf, struct block_cache *cache) {
    *buf = (struct inbuf){.cache = cache};
}

void inbuf_drop(struct inbuf *buf) {
    if (buf->block)
        block_put(buf->cache, buf->block);
    *buf = (struct inbuf){.cache = buf->cache};
}

static void set_memory(struct inbuf *buf, struct block *block, uint32_t start, uint32_t end) {
    buf->block = block;
    buf->data = block->data;
    buf->start = start;
    buf->end = end;
    buf->cap = BLOCK_DATA_SIZE;
}

static int take_block(struct inbuf *buf) {
    struct block *block = block_get(buf->cache);
    if (!block)
        return -ENOMEM;
    size_t len = inbuf_len(buf);
    ASSERT(len <= BLOCK_DATA_SIZE);
    if (len)
        memcpy(block->data, buf->data + buf->start, len);
    if (buf->block)
        block_put(buf->cache, buf->block);
    set_memory(buf, block, 0, (uint32_t)len);
    return 0;
}

static NOINLINE int room_behind_bytes(struct inbuf *buf) {
    /* A small tail makes for small reads; half a block is worth a fresh one, whose copy of the
     * unused bytes is at most the other half. */
    bool small_tail = buf->cap - buf->end < BLOCK_DATA_SIZE / 4;
    bool no_tail = buf->cap == buf->end && buf->block;
    if (buf->start > 0 && (no_tail || (small_tail && inbuf_len(buf) <= BLOCK_DATA_SIZE / 2))) {
        int rc = take_block(buf);
        if (rc != 0)
            return rc;
    }
    uint32_t room = buf->cap - buf->end;
    if (room == 0)
        return -EMSGSIZE;
    return (int)(!buf->block && room > STEP ? STEP : room);
}

int inbuf_room(struct inbuf *buf) {
    if (!buf->data) {
        struct block *block = block_get(buf->cache);
        if (!block)
            return -ENOMEM;
        uint32_t colour = block_colour(block);
        set_memory(buf, block, colour, colour);
        return (int)(BLOCK_DATA_SIZE - colour);
    }
    if (inbuf_len(buf) == 0 && buf->block && buf->block->leases == 1) {
        buf->start = buf->end = 0; /* nobody else looks at it */
        return BLOCK_DATA_SIZE;
    }
    return room_behind_bytes(buf);
}

int inbuf_grow(struct inbuf *buf, struct arena *arena, size_t size) {
    size_t len = inbuf_len(buf);
    ASSERT(size >= len);
    char *memory = arena_alloc(arena, size);
    if (!memory)
        return -ENOMEM;
    memcpy(memory, buf->data + buf->start, len);
    inbuf_drop(buf);
    buf->data = memory;
    buf->cap = (uint32_t)size;
    buf->end = (uint32_t)len;
    return 0;
}

bool inbuf_make_head_room(struct inbuf *buf, struct arena *arena, size_t limit) {
    int room = inbuf_room(buf);
    return room > 0 ||
           (room == -EMSGSIZE && buf->block && inbuf_grow(buf, arena, limit + STEP) == 0);
}

int inbuf_put(struct inbuf *buf, struct arena *arena, struct span bytes, size_t limit) {
    ASSERT(!buf->data);
    if (bytes.len < BLOCK_DATA_SIZE) {
        int rc = take_block(buf);
        if (rc != 0)
            return rc;
    } else {
        size_t size = (bytes.len > limit ? bytes.len : limit) + STEP;
        char *memory = arena_alloc(arena, size);
        if (!memory)
            return -ENOMEM;
        buf->data = memory;
        buf->cap = (uint32_t)size;
    }
    memcpy(buf->data, bytes.ptr, bytes.len);
    buf->end = (uint32_t)bytes.len;
    return 0;
}

int inbuf_hold(struct inbuf *buf, struct arena *arena) {
    if (!buf->block)
        return 0;
    int rc = arena_hold(arena, block_lease(buf->block));
    if (rc != 0)
        block_put(buf->cache, buf->block);
    return rc;
}

int inbuf_leave_arena(struct inbuf *buf) {
    if (buf->block || !buf->data)
        return 0;
    if (inbuf_len(buf) == 0) {
        inbuf_drop(buf);
        return 0;
    }
    int rc = inbuf_len(buf) <= BLOCK_DATA_SIZE ? take_block(buf) : -EMSGSIZE;
    if (rc != 0)
        inbuf_drop(buf);
    return rc;
}
