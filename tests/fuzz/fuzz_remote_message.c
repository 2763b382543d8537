/* What a proxy and a host process write to each other, when either is hostile. */
#include "fuzz_record.h"

#include "ext/remote/remote_call.h"
#include "http/header_map.h"

enum { ENTRIES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_result(struct remote_out *out, const struct remote_result *result,
                       struct remote_in *ops, bool *is_bad) {
    struct remote_op op;
    int more;
    remote_put_result(out, result);
    while ((more = remote_next_op(ops, &op)) == 1) {
        remote_put_op(out, &op);
        if (op.kind != REMOTE_OP_REPLY)
            continue;
        struct span rest = op.reply.headers, name, value;
        const char *last = rest.ptr;
        while (remote_next_header(&rest, &name, &value)) {
            ASSERT(rest.ptr > last);
            last = rest.ptr;
        }
    }
    *is_bad = more < 0;
}

static bool read_and_write(unsigned kind, struct span record, struct remote_out *out) {
    static struct header entries[ENTRIES];
    struct remote_lend lend;
    struct remote_body body;
    struct remote_log log;
    struct remote_end end;
    struct remote_result result;
    struct remote_ask ask;
    struct remote_answer answer;
    struct remote_metric metric;
    struct remote_text text;
    struct remote_specify specify;
    struct remote_named named;
    struct remote_call call;
    struct remote_give give;
    struct remote_want want;
    struct remote_return said;
    struct remote_in ops;
    bool is_bad = false;
    switch (kind % 16) {
    case 0:
        if ((is_bad = remote_read_lend(record, entries, ENTRIES, &lend) != 0) == false)
            remote_put_lend(out, &lend);
        break;
    case 1:
        if ((is_bad = remote_read_body(record, &body) != 0) == false)
            remote_put_body(out, &body);
        break;
    case 2:
        if ((is_bad = remote_read_log(record, entries, ENTRIES, &log) != 0) == false)
            remote_put_log(out, &log);
        break;
    case 3:
        if ((is_bad = remote_read_end(record, &end) != 0) == false)
            remote_put_end(out, &end);
        break;
    case 4:
        if ((is_bad = remote_read_result(record, &result, &ops) != 0) == false)
            put_result(out, &result, &ops, &is_bad);
        break;
    case 5:
        if ((is_bad = remote_read_ask(record, &ask) != 0) == false)
            remote_put_ask(out, &ask);
        break;
    case 6:
        if ((is_bad = remote_read_answer(record, &answer) != 0) == false)
            remote_put_answer(out, &answer);
        break;
    case 7:
        if ((is_bad = remote_read_metric(record, &metric) != 0) == false)
            remote_put_metric(out, &metric);
        break;
    case 9:
        if ((is_bad = remote_read_specify(record, entries, ENTRIES, &specify) != 0) == false)
            remote_put_specify(out, &specify);
        break;
    case 10:
        if ((is_bad = remote_read_named(record, &named) != 0) == false)
            remote_put_named(out, &named);
        break;
    case 11:
        if ((is_bad = remote_read_text(record, &text) != 0) == false)
            remote_put_text(out, &text);
        break;
    case 12:
        if ((is_bad = remote_read_call(record, entries, ENTRIES, &call) != 0) == false)
            remote_put_call(out, &call);
        break;
    case 13:
        if ((is_bad = remote_read_give(record, entries, ENTRIES, &give) != 0) == false)
            remote_put_give(out, &give);
        break;
    case 14:
        if ((is_bad = remote_read_want(record, &want) != 0) == false)
            remote_put_want(out, &want);
        break;
    default:
        if ((is_bad = remote_read_return(record, &said) != 0) == false)
            remote_put_return(out, &said);
        break;
    }
    return !is_bad;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_record(read_and_write, data, size);
}
