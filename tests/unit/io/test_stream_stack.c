/* stream_*.c: decorators, each alone and in stacks of all kinds, beside a model of what they do: whatever the sizes
 * in which a stream comes and is read, whether it has to be waited for, and wherever it fails, the bytes and the error
 * are the model's, nobody promised what was not so, and all are closed exactly once. */
#include <malloc.h>
#include <stdlib.h>

#include "io/stream_buffer.h"
#include "io/stream_concat.h"
#include "io/stream_copy.h"
#include "io/stream_count.h"
#include "io/stream_deadline.h"
#include "io/stream_footer.h"
#include "io/stream_hook.h"
#include "io/stream_limit.h"
#include "io/stream_peek.h"
#include "io/stream_prefix.h"
#include "io/stream_rate.h"
#include "io/stream_tee.h"
#include "io_story.h"
#include "stream_story.h"

/* ---- Allocations ---- */

/* Of this thread: others begin meanwhile. */
static _Thread_local unsigned allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    allocations++;
    return __real_malloc(size);
}
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    allocations++;
    return __real_calloc(count, size);
}
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size) {
    allocations++;
    return __real_realloc(old, size);
}

static NOINLINE unsigned allocations_here(void) {
    return allocations;
}

/* ---- The model ---- */

/* What a stream is, whole: bytes, and 0 or the error behind them. */
struct model {
    char bytes[1 << 16];
    size_t size;
    int error;
};

static void model_put(struct model *model, size_t at, struct span bytes) {
    CHECK(model->size + bytes.len <= sizeof model->bytes);
    memmove(model->bytes + at + bytes.len, model->bytes + at, model->size - at);
    memcpy(model->bytes + at, bytes.ptr, bytes.len);
    model->size += bytes.len;
}

/* ---- A stack of decorators of a reader ---- */

enum kind {
    HOOK,
    CONCAT,
    PREFIX,
    LIMIT,
    LIMIT_FAILING,
    TEE,
    TEE_BROKEN,
    COUNT,
    DEADLINE,
    RATE,
    BUFFER,
    PEEK,
    FOOTER,
    KINDS
};

enum { DEPTH_MAX = 6 };

struct collected { /* by an observer */
    char bytes[1 << 16];
    size_t size;
    unsigned ends;
    int error;
};

struct layer {
    enum kind kind;
    union {
        struct hook_reader hook;
        struct concat_reader concat;
        struct prefix_reader prefix;
        struct limit_reader limit;
        struct tee_reader tee;
        struct count_reader count;
        struct deadline_reader deadline;
        struct rate_reader rate;
        struct buffer_reader buffer;
        struct peek_reader peek;
        struct footer_reader footer;
        struct hook_writer hook_w;
        struct prefix_writer prefix_w;
        struct limit_writer limit_w;
        struct tee_writer tee_w;
        struct count_writer count_w;
        struct rate_writer rate_w;
        struct footer_writer footer_w;
    };
    struct collected seen;
    struct reader parts[2];
    struct told_reader second;
    struct told_writer side;
    char side_got[1 << 17];
    struct rate_bucket bucket;
    struct span made;
};

static struct layer layers[DEPTH_MAX];
static unsigned depth;
static struct told_reader source;
static struct told_writer sink;
static struct model model;
static uint64_t seed = 42;

static size_t random_below(size_t n) {
    return next_random(&seed) % n;
}

static void collect(void *arg, struct span bytes) {
    struct collected *seen = arg;
    CHECK(seen->ends == 0);
    CHECK(bytes.len > 0 && seen->size + bytes.len <= sizeof seen->bytes);
    memcpy(seen->bytes + seen->size, bytes.ptr, bytes.len);
    seen->size += bytes.len;
}

static void note_end(void *arg, int error) {
    struct collected *seen = arg;
    seen->ends++;
    seen->error = error;
}

static struct stream_observer observer_of(struct collected *seen) {
    seen->size = 0;
    seen->ends = 0;
    return (struct stream_observer){collect, note_end, seen};
}

static struct span give_made(void *arg) {
    const struct layer *layer = arg;
    return layer->made;
}

/* A text that is there, or one that is made. */
static struct stream_text some_text(struct layer *layer, struct span text) {
    layer->made = text;
    return random_below(2) ? stream_text_of(text)
                           : (struct stream_text){.make = give_made, .arg = layer};
}

static struct reader put_on(struct layer *layer, enum kind kind, struct reader inner,
                            size_t number) {
    layer->kind = kind;
    struct span text = span_make("<<prefix of a stream>>", number % 23);
    switch (kind) {
    case HOOK:
        hook_reader_init(&layer->hook, inner, observer_of(&layer->seen));
        return hook_reader(&layer->hook);
    case CONCAT:
        told_reader_init(&layer->second, text);
        layer->second.runs[0] = 5;
        layer->second.run_count = number % 2 ? 2 : 1; /* with and without waiting */
        layer->parts[0] = inner;
        layer->parts[1] = told_reader(&layer->second);
        concat_reader_init(&layer->concat, layer->parts, 2);
        if (!model.error)
            model_put(&model, model.size, text);
        return concat_reader(&layer->concat);
    case PREFIX:
        prefix_reader_init(&layer->prefix, inner, some_text(layer, text));
        model_put(&model, 0, text);
        return prefix_reader(&layer->prefix);
    case LIMIT:
        limit_reader_init(&layer->limit, inner, number, LIMIT_ENDS);
        if (model.size >= number) {
            model.size = number;
            model.error = 0;
        }
        return limit_reader(&layer->limit);
    case LIMIT_FAILING:
        limit_reader_init(&layer->limit, inner, number, LIMIT_FAILS);
        if (model.size > number) {
            model.size = number;
            model.error = -EMSGSIZE;
        }
        return limit_reader(&layer->limit);
    case TEE:
    case TEE_BROKEN:
        told_writer_init(&layer->side, layer->side_got);
        if (kind == TEE_BROKEN)
            layer->side.fails_at = number;
        tee_reader_init(&layer->tee, inner, told_writer(&layer->side), TEE_DROPS);
        return tee_reader(&layer->tee);
    case COUNT:
        count_reader_init(&layer->count, inner);
        return count_reader(&layer->count);
    case DEADLINE:
        deadline_reader_init(&layer->deadline, inner, story_soon());
        return deadline_reader(&layer->deadline);
    case RATE:
        rate_bucket_init(&layer->bucket, 1ULL << 40, 100000);
        rate_reader_init(&layer->rate, inner, &layer->bucket);
        return rate_reader(&layer->rate);
    case BUFFER:
        buffer_reader_init(&layer->buffer, inner, number * 8);
        if (!model.error && model.size > number * 8)
            model.error = -EMSGSIZE;
        else if (model.error && model.size > number * 8)
            model.error = -EMSGSIZE; /* which is seen first */
        if (model.error)
            model.size = 0;
        return buffer_reader(&layer->buffer);
    case PEEK:
        peek_reader_init(&layer->peek, inner);
        return peek_reader(&layer->peek);
    case FOOTER:
        footer_reader_init(&layer->footer, inner, some_text(layer, text));
        if (!model.error)
            model_put(&model, model.size, text);
        return footer_reader(&layer->footer);
    case KINDS:
        break;
    }
    CHECK(!"a kind");
    return inner;
}

static void looks_at(struct peek_reader *peek, size_t want) {
    struct span seen;
    ssize_t n = peek_reader_look(peek, want, &seen);
    CHECK(n < 0 || (size_t)n == seen.len);
    CHECK(n < 0 || seen.len >= want || peek_reader_look(peek, want, &seen) == n);
}

static void check_layer(struct layer *layer, bool whole) {
    switch (layer->kind) {
    case HOOK:
        CHECK(layer->seen.ends == 1);
        break;
    case CONCAT:
        CHECK(layer->second.closes == 1);
        break;
    case TEE:
    case TEE_BROKEN:
        CHECK(layer->side.closes == 1);
        CHECK(layer->side.finishes + layer->side.aborts <= 1);
        CHECK(!whole || layer->side.broken || layer->side.finishes == 1);
        break;
    default:
        break;
    }
}

static void begin(size_t size) {
    static char text[1 << 16];
    for (size_t i = 0; i < size; i++)
        text[i] = told_byte(i);
    told_reader_init(&source, span_make(text, size));
    memcpy(model.bytes, text, size);
    model.size = size;
    model.error = 0;
    depth = 0;
}

static void fails_at(size_t at) {
    source.fails_at = at;
    model.size = at;
    model.error = source.error;
}

static unsigned waits(void) {
    unsigned sum = source.waited;
    for (unsigned i = 0; i < depth; i++)
        if (layers[i].kind == CONCAT)
            sum += layers[i].second.waited;
    return sum;
}

/* Reads all of it, in pieces of up to max bytes (0: of any size), by trying first or not; checks every promise. */
static void read_and_compare(struct reader reader, size_t max, bool tries) {
    size_t got = 0;
    ssize_t n;
    for (;;) {
        enum reader_peek promised = reader_peek(reader);
        unsigned waited = waits();
        struct span out;
        size_t most = max ? max : 1 + random_below(random_below(2) ? 10 : 5000);
        n = tries ? reader_try_next(reader, most, &out) : -EOPNOTSUPP;
        if (n == -EOPNOTSUPP) {
            n = reader_next(reader, most, &out);
            CHECK(promised == READER_MAY_PARK || waits() == waited);
            CHECK(promised != READER_END || n == 0);
            CHECK(promised != READER_READY || n != 0);
        }
        if (n == -EAGAIN) {
            CHECK(promised == READER_MAY_PARK);
            continue;
        }
        if (n <= 0)
            break;
        CHECK((size_t)n == out.len && out.len <= most);
        CHECK(got + out.len <= model.size);
        CHECK(memcmp(model.bytes + got, out.ptr, out.len) == 0);
        got += out.len;
        (void)reader_peek(reader); /* leaves alone what was lent */
        CHECK(memcmp(model.bytes + got - out.len, out.ptr, out.len) == 0);
    }
    CHECK(got == model.size);
    CHECK(n == model.error);
    struct span out;
    CHECK(reader_next(reader, 1, &out) == n); /* it sticks */
    CHECK(reader_next(reader, 1, &out) == n);
}

static void close_and_check(struct reader reader, bool whole) {
    CHECK(source.closes <= 1);
    reader_close(reader);
    reader_close(reader);
    CHECK(source.closes == 1);
    for (unsigned i = 0; i < depth; i++)
        check_layer(&layers[i], whole);
    CHECK(blocks_in_use() == 0);
}

/* ---- Each alone ---- */

static void alone_story(void *arg) {
    for (enum kind kind = 0; kind < KINDS; kind++) {
        for (size_t first = 0; first <= 30; first++) { /* every split in two */
            for (size_t max = 1; max <= 40; max = max < 3 ? max + 1 : max * 3) {
                begin(30);
                source.runs[0] = first;
                source.runs[1] = 30 - first;
                source.runs[2] = 30;
                source.run_count = 3;
                struct reader reader = put_on(&layers[depth++], kind, told_reader(&source), 17);
                read_and_compare(reader, max, first % 2);
                close_and_check(reader, true);
                CHECK(kind != HOOK || layers[0].seen.size == 30);
                CHECK(kind != HOOK || memcmp(layers[0].seen.bytes, model.bytes, 30) == 0);
                CHECK(kind != TEE || layers[0].side.size == 30);
                CHECK(kind != TEE || memcmp(layers[0].side_got, model.bytes, 30) == 0);
                CHECK(kind != TEE_BROKEN || layers[0].tee.side.error == -EPIPE);
                CHECK(kind != COUNT || layers[0].count.bytes == 30);
            }
        }
        for (size_t at = 0; at <= 30; at++) { /* byte by byte, and it fails anywhere */
            begin(30);
            fails_at(at);
            source.runs[0] = 1;
            source.runs[1] = 0;
            source.run_count = 2;
            struct reader reader = put_on(&layers[depth++], kind, told_reader(&source), 17);
            read_and_compare(reader, 0, at % 2);
            close_and_check(reader, false);
            CHECK(kind != HOOK || layers[0].seen.error == -ECONNRESET);
            CHECK(kind != TEE || (layers[0].side.aborts == 1 && layers[0].side.finishes == 0));
        }
        /* And it may be closed anywhere. */
        for (size_t reads = 0; reads < 12; reads++) {
            begin(30);
            source.runs[0] = 4;
            source.run_count = 1;
            struct reader reader = put_on(&layers[depth++], kind, told_reader(&source), 100);
            struct span out;
            for (size_t i = 0; i < reads; i++)
                CHECK(reader_next(reader, 10, &out) >= 0);
            close_and_check(reader, false);
        }
    }
    rt_stop(0);
}

static void test_each_alone_is_its_model(void **state) {
    story(1, alone_story);
}

/* ---- Stacks ---- */

static void stacks_story(void *arg) {
    unsigned met[KINDS] = {0};
    for (unsigned round = 0; round < 2000; round++) {
        size_t size = random_below(random_below(4) ? 200 : 20000);
        begin(size);
        if (random_below(3) == 0)
            fails_at(random_below(size + 1));
        source.run_count = 1 + random_below(10);
        for (size_t i = 0; i < source.run_count; i++)
            source.runs[i] = random_below(random_below(2) ? 8 : 3000);
        source.runs[0] = 700;
        source.cannot_try = random_below(5) == 0;
        struct reader reader = told_reader(&source);
        unsigned want = 1 + (unsigned)random_below(DEPTH_MAX);
        while (depth < want) {
            enum kind kind = (enum kind)random_below(KINDS);
            size_t number = random_below(2) ? random_below(300) : 15000 + random_below(10000);
            met[kind]++;
            reader = put_on(&layers[depth], kind, reader, number);
            if (kind == PEEK)
                looks_at(&layers[depth].peek, 1 + random_below(random_below(2) ? 20 : PEEK_MAX));
            depth++;
        }
        read_and_compare(reader, 0, random_below(2));
        close_and_check(reader, model.error == 0 && depth == 1);
    }
    for (enum kind kind = 0; kind < KINDS; kind++)
        CHECK(met[kind] > 100);
    rt_stop(0);
}

static void test_any_stack_is_its_model(void **state) {
    story(1, stacks_story);
}

/* Nothing is allocated for a read, from the first to the last. */
static void allocations_story(void *arg) {
    unsigned reads = 0;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        for (int warm = 0; warm < 2; warm++) {
            begin(60000);
            struct reader reader =
                put_on(&layers[depth++], kind, told_reader(&source), kind == LIMIT ? 50000 : 15000);
            unsigned before = allocations_here();
            struct span out;
            ssize_t n;
            while ((n = reader_next(reader, 3000, &out)) > 0)
                reads++;
            CHECK(!warm || allocations_here() == before);
            close_and_check(reader, true);
            CHECK(!warm || allocations_here() == before);
        }
    }
    CHECK(reads > 20 * KINDS);
    rt_stop(0);
}

static void test_reads_allocate_nothing(void **state) {
    story(1, allocations_story);
}

/* ---- Writers ---- */

static const enum kind writer_kinds[] = {HOOK,       PREFIX, LIMIT_FAILING, TEE,
                                         TEE_BROKEN, COUNT,  RATE,          FOOTER};
enum { WRITER_KINDS = sizeof writer_kinds / sizeof *writer_kinds };

/* Bytes that are added on the way from here to the sink; what a limit in between sees of the stream. */
static struct writer put_on_writer(struct layer *layer, enum kind kind, struct writer inner,
                                   size_t number, struct span *before, struct span *behind) {
    layer->kind = kind;
    *before = *behind = span_make("", 0);
    struct span text = span_make("<<prefix of a stream>>", number % 23);
    switch (kind) {
    case HOOK:
        hook_writer_init(&layer->hook_w, inner, observer_of(&layer->seen));
        return hook_writer(&layer->hook_w);
    case PREFIX:
        *before = text;
        prefix_writer_init(&layer->prefix_w, inner, some_text(layer, text));
        return prefix_writer(&layer->prefix_w);
    case LIMIT_FAILING: /* large enough */
        limit_writer_init(&layer->limit_w, inner, 1 << 20);
        return limit_writer(&layer->limit_w);
    case TEE:
    case TEE_BROKEN:
        told_writer_init(&layer->side, layer->side_got);
        if (kind == TEE_BROKEN)
            layer->side.fails_at = number;
        tee_writer_init(&layer->tee_w, inner, told_writer(&layer->side), TEE_DROPS);
        return tee_writer(&layer->tee_w);
    case COUNT:
        count_writer_init(&layer->count_w, inner);
        return count_writer(&layer->count_w);
    case RATE:
        rate_bucket_init(&layer->bucket, 1ULL << 40, 100000);
        rate_writer_init(&layer->rate_w, inner, &layer->bucket);
        return rate_writer(&layer->rate_w);
    case FOOTER:
        *behind = text;
        footer_writer_init(&layer->footer_w, inner, some_text(layer, text));
        return footer_writer(&layer->footer_w);
    default:
        CHECK(!"a kind");
        return inner;
    }
}

static int write_some(struct writer writer, struct span *rest, bool tries) {
    struct iovec pieces[20];
    int count = 1 + (int)random_below(20);
    struct span left = *rest;
    for (int i = 0; i < count; i++) {
        size_t n = random_below(random_below(2) ? 8 : 400);
        n = n < left.len ? n : left.len;
        pieces[i] = (struct iovec){(void *)(uintptr_t)left.ptr, n};
        left = span_from(left, n);
    }
    size_t size = pieces_size(pieces, count);
    ssize_t n = tries ? writer_try_write(writer, pieces, count) : -EOPNOTSUPP;
    if (n == -EOPNOTSUPP) {
        int rc = writer_write(writer, pieces, count);
        if (rc != 0)
            return rc;
        n = (ssize_t)size;
    }
    if (n == -EAGAIN)
        return 0;
    if (n < 0)
        return (int)n;
    CHECK((size_t)n <= size);
    *rest = span_from(*rest, (size_t)n);
    return 0;
}

static void writers_story(void *arg) {
    static char text[20000], got[TOLD_BYTES_MAX];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = told_byte(i);
    unsigned failed = 0;
    for (unsigned round = 0; round < 2000; round++) {
        size_t size = random_below(random_below(4) ? 300 : sizeof text);
        told_writer_init(&sink, got);
        sink.take_count = 1 + random_below(5);
        for (size_t i = 0; i < sink.take_count; i++)
            sink.takes[i] = random_below(100);
        sink.takes[0] = 50;
        bool fails = random_below(3) == 0;
        if (fails)
            sink.fails_at = random_below(size + 1);
        memcpy(model.bytes, text, size);
        model.size = size;
        struct writer writer = told_writer(&sink);
        struct span before[DEPTH_MAX], behind[DEPTH_MAX];
        depth = 0;
        for (unsigned want = round < WRITER_KINDS ? 1 : 1 + (unsigned)random_below(DEPTH_MAX);
             depth < want; depth++) {
            enum kind kind =
                writer_kinds[round < WRITER_KINDS ? round : random_below(WRITER_KINDS)];
            writer = put_on_writer(&layers[depth], kind, writer, random_below(300), &before[depth],
                                   &behind[depth]);
        }
        for (unsigned i = depth; i-- > 0;) { /* the outermost is nearest to the bytes */
            model_put(&model, 0, before[i]);
            model_put(&model, model.size, behind[i]);
        }
        struct span rest = span_make(text, size);
        int rc = 0;
        unsigned writes = 0;
        while (rest.len && rc == 0) {
            rc = write_some(writer, &rest, random_below(2));
            CHECK(++writes < 100000);
        }
        if (rc == 0)
            rc = writer_finish(writer);
        failed += rc != 0;
        CHECK(rc == 0 || (fails && rc == sink.error));
        CHECK(rc != 0 || (sink.size == model.size && sink.finishes == 1));
        CHECK(sink.size <= model.size && memcmp(got, model.bytes, sink.size) == 0);
        CHECK(!(fails && sink.fails_at < model.size) || (rc != 0 && sink.finishes == 0));
        if (rc != 0) {
            struct iovec more = {text, 1};
            CHECK(writer_write(writer, &more, 1) == rc); /* it sticks */
            writer_abort(writer);
            CHECK(sink.aborts == 1);
        }
        writer_close(writer);
        writer_close(writer);
        CHECK(sink.closes == 1);
        for (unsigned i = 0; i < depth; i++) {
            check_layer(&layers[i], rc == 0 && depth == 1);
            CHECK(layers[i].kind != COUNT || rc != 0 || layers[i].count_w.bytes >= size);
        }
    }
    CHECK(failed > 100);
    rt_stop(0);
}

static void test_any_stack_of_writers_is_its_model(void **state) {
    story(1, writers_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_alone_is_its_model),
        cmocka_unit_test(test_any_stack_is_its_model),
        cmocka_unit_test(test_reads_allocate_nothing),
        cmocka_unit_test(test_any_stack_of_writers_is_its_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
