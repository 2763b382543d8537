/* format_internal: a compiled format; shared by the format_*.c files and the JSON access log only. */
#pragma once
#include "http/header_map.h"
#include "proxy/format.h"

enum format_op_kind {
    OP_LITERAL,
    OP_REQUEST_HEADER,
    OP_RESPONSE_HEADER,
    OP_TRAILER,
    OP_TIME, /* START_TIME, EMIT_TIME and their _LOCAL forms */
    OP_DURATION,
    OP_ADDRESS,
    OP_FIELD, /* everything else without arguments: enum format_field */
    OP_GRPC_STATUS,
    OP_PATH,
    OP_QUERY_PARAM,
    OP_METADATA,     /* dynamic */
    OP_FILTER_STATE, /* which: enum format_filter_state */
    OP_TLS,          /* which: enum format_tls, part: enum format_tls_side */
};

enum format_field {
    FIELD_BYTES_RECEIVED,
    FIELD_BYTES_SENT,
    FIELD_HEADER_BYTES_RECEIVED,
    FIELD_HEADER_BYTES_SENT,
    FIELD_PROTOCOL,
    FIELD_UPSTREAM_PROTOCOL,
    FIELD_RESPONSE_CODE,
    FIELD_RESPONSE_CODE_DETAILS,
    FIELD_RESPONSE_CODE_DETAILS_SPACES, /* with ALLOW_WHITESPACES */
    FIELD_CONNECTION_TERMINATION_DETAILS,
    FIELD_RESPONSE_FLAGS,
    FIELD_RESPONSE_FLAGS_LONG,
    FIELD_REQUEST_HEADERS_BYTES,
    FIELD_RESPONSE_HEADERS_BYTES,
    FIELD_RESPONSE_TRAILERS_BYTES,
    FIELD_UPSTREAM_HOST_NAME,
    FIELD_UPSTREAM_HOST_NAME_WITHOUT_PORT,
    FIELD_UPSTREAM_CLUSTER,
    FIELD_UPSTREAM_ATTEMPTS,
    FIELD_UPSTREAM_TRANSPORT_FAILURE,
    FIELD_CONNECTION_ID,
    FIELD_STREAM_ID,
    FIELD_ROUTE_NAME,
    FIELD_VIRTUAL_CLUSTER_NAME,
    FIELD_FILTER_CHAIN_NAME,
    FIELD_ACCESS_LOG_TYPE,
    FIELD_CUSTOM_FLAGS,
    FIELD_QUERY_PARAMS,
    FIELD_UNIQUE_ID,
    FIELD_REQUESTED_SERVER_NAME,
};

enum format_point { /* in a stream's life; names as COMMON_DURATION has them */
                    POINT_DS_RX_BEG,
                    POINT_DS_RX_END,
                    POINT_US_TX_BEG,
                    POINT_US_TX_END,
                    POINT_US_RX_BEG,
                    POINT_US_RX_END,
                    POINT_DS_TX_BEG,
                    POINT_DS_TX_END,
                    POINT_NOW, /* the end of the stream, or now while it lasts */
};

enum format_address {
    ADDRESS_DOWNSTREAM_LOCAL,
    ADDRESS_DOWNSTREAM_REMOTE,
    ADDRESS_DOWNSTREAM_DIRECT_LOCAL,
    ADDRESS_DOWNSTREAM_DIRECT_REMOTE,
    ADDRESS_UPSTREAM_LOCAL,
    ADDRESS_UPSTREAM_REMOTE,
};
enum format_address_part { ADDRESS_WHOLE, ADDRESS_WITHOUT_PORT, ADDRESS_PORT };

/* Besides what filters set under whatever key, what the sniffer stamps on a connection. */
enum format_filter_state {
    STATE_OF_FILTERS,
    STATE_FLOW_ID,
    STATE_TIMESTAMP,
    STATE_SRC_PORT,
    STATE_PROTOCOL
};

enum format_tls {
    TLS_VERSION,
    TLS_CIPHER,
    TLS_SESSION_ID,
    TLS_SUBJECT,
    TLS_ISSUER,
    TLS_SERIAL,
    TLS_FINGERPRINT_1,
    TLS_FINGERPRINT_256,
    TLS_URI_SANS,
    TLS_DNS_SANS,
    TLS_IP_SANS,
    TLS_EMAIL_SANS,
    TLS_PEM,
    TLS_VALID_FROM, /* these two take a format of times */
    TLS_VALID_TO,
    TLS_FAILURE,
};
enum format_tls_side {
    TLS_PEER,     /* the client's connection, and its certificate */
    TLS_LOCAL,    /* the certificate that we showed to it */
    TLS_UPSTREAM, /* the upstream's connection, and its certificate */
};

enum format_grpc { GRPC_CAMEL, GRPC_SNAKE, GRPC_NUMBER };
enum format_path_source { PATH_ORIGINAL_OR_CURRENT, PATH_ORIGINAL, PATH_CURRENT };

/* A strftime-like format, cut where strftime alone does not do. */
struct time_piece {
    enum {
        TIME_STRFTIME, /* text, NUL-terminated */
        TIME_FRACTION, /* digits of the second's fraction */
        TIME_SECONDS,  /* "SS.fff" */
        TIME_EPOCH,    /* seconds since 1970 */
        TIME_ZONE,     /* "+00:00", with seconds when digits is 6 */
        TIME_YEAR,     /* four digits */
    } kind;
    unsigned digits;
    char *text;
};
struct time_format {
    struct time_piece *pieces; /* count 0: "2026-01-31T12:00:00.123Z" */
    size_t count;
    bool local; /* the machine's time zone; else UTC */
};

struct format_op {
    enum format_op_kind kind;
    int which;         /* enum format_field, format_address, format_grpc, ... */
    int part;          /* enum format_address_part; PATH: whether with the query */
    int start, end;    /* DURATION: enum format_point */
    int64_t unit_ns;   /* DURATION */
    size_t max_len;    /* SIZE_MAX: no limit */
    struct span text;  /* LITERAL; QUERY_PARAM's name; METADATA's namespace;
                          FILTER_STATE's key; owned */
    struct span *keys; /* METADATA: spans into name; owned */
    size_t key_count;
    struct span name, other_name; /* lower-case, owned; other: absent when not given */
    enum header_id id, other_id;
    struct time_format time;
};

/* ---- what can be written in a format ---- */

enum format_syntax {
    NO_ARGUMENT = 0,
    ARGUMENT_REQUIRED = 1,
    ARGUMENT_OPTIONAL = 2,
    LENGTH_ALLOWED = 4,
};
enum { TIME_START, TIME_EMIT };         /* which of OP_TIME */
enum { FIXED_ENVIRONMENT, FIXED_HOST }; /* which of OP_LITERAL: known when the format is compiled */

struct format_command {
    const char *name;
    unsigned syntax; /* enum format_syntax */
    enum format_op_kind kind;
    int which, part, start, end; /* as in format_op; start -1: the argument says it */
};
/* NULL when there is none of that name. */
const struct format_command *format_command_find(struct span name);
/* One that Envoy has and we have not. */
bool format_command_is_envoys(struct span name);

struct format {
    struct format_op *ops;
    size_t count;
};

enum format_value_kind {
    FORMAT_ABSENT,
    FORMAT_STRING,
    FORMAT_JSON, /* a number, or other JSON that is no string */
};
/* Appends the value of one operator, if it has one. */
enum format_value_kind format_op_write(const struct format_op *op, const struct format_subject *of,
                                       struct format_out *out);

/* text as START_TIME takes it. 0, -EINVAL with the reason in *error, or -ENOMEM. */
int time_format_compile(struct span text, bool local, struct time_format *out, const char **error);
void time_format_fini(struct time_format *format);
void time_format_write(const struct time_format *format, int64_t wall_ns, struct format_out *out);

/* ---- what several of these files write ---- */

/* At most max_len bytes of it. The absent span is FORMAT_ABSENT. */
enum format_value_kind format_put_text(struct format_out *out, struct span text, size_t max_len);
/* As it stands between the quotes of a JSON string: what was appended behind start. */
void format_encode_json(struct format_out *out, size_t start);
/* OP_ADDRESS, OP_METADATA, OP_FILTER_STATE and OP_TLS. */
enum format_value_kind format_put_address(const struct format_op *op,
                                          const struct format_subject *of, struct format_out *out);
enum format_value_kind format_put_metadata(const struct format_op *op,
                                           const struct format_subject *of, struct format_out *out);
enum format_value_kind format_put_filter_state(const struct format_op *op,
                                               const struct format_subject *of,
                                               struct format_out *out);

enum format_value_kind format_put_tls(const struct format_op *op, const struct format_subject *of,
                                      struct format_out *out);

/* As protobuf prints a double: 7, 0.5, 1e+30. */
void format_put_number(struct format_out *out, double number);
void format_put_u64(struct format_out *out, uint64_t number);
