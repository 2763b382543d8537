/* stream_tee: what passes is written to a side as well: a capture, a shadow, a second backend. Before whoever reads
 * sees it, and at the pace of the slower of the two.
 *
 * The side is owned: it is finished when the stream ends, aborted when that fails or is closed before, and
 * closed with it. Since a copy of every byte goes there nothing is spliced, and since the side may have to be
 * waited for only a coroutine can read or write it.
 *
 * Borrows  A reader lends what the reader inside lends, and for as long. The side is lent the same bytes.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/reader.h"
#include "io/writer.h"

enum tee_policy {
    TEE_FAILS, /* an error of the side is one of the stream */
    TEE_DROPS, /* the side is aborted and gets no more; the stream goes on */
};

struct tee_side { /* private, but for `error` */
    struct writer writer;
    enum tee_policy policy;
    bool over, closed;
    int error; /* of the side; 0: none */
};

struct tee_reader {
    struct reader inner;
    struct tee_side side;
    int error;
};

void tee_reader_init(struct tee_reader *tee, struct reader inner BORROWED_BY(tee),
                     struct writer side BORROWED_BY(tee), enum tee_policy policy);
struct reader tee_reader(struct tee_reader *tee BORROWED_BY(result));

/* The side gets what the writer inside has taken. */
struct tee_writer {
    struct writer inner;
    struct tee_side side;
    int error;
};

void tee_writer_init(struct tee_writer *tee, struct writer inner BORROWED_BY(tee),
                     struct writer side BORROWED_BY(tee), enum tee_policy policy);
struct writer tee_writer(struct tee_writer *tee BORROWED_BY(result));
