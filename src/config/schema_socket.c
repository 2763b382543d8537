/* schema_socket: what is said of sockets beside their address. */
#include "config/schema_tables.h"

static const struct cfg_enum_value state_values[] = {
    {CFG_SOCKET_BEFORE_BIND, "STATE_PREBIND", CFG_SUPPORTED},
    {CFG_SOCKET_BOUND, "STATE_BOUND", CFG_SUPPORTED},
    {CFG_SOCKET_LISTENING, "STATE_LISTENING", CFG_SUPPORTED},
};
static const struct cfg_enum state_enum =
    ENUM_TABLE("envoy.config.core.v3.SocketOption.SocketState", state_values);

#define VALUE ONEOF(struct cfg_socket_option, value), .rules = CFG_ONEOF_REQUIRED
static const struct cfg_field option_fields[] = {
    FIELD(struct cfg_socket_option, 1, description, CFG_STRING, .status = CFG_INERT,
          .doc = "For people."),
    FIELD(struct cfg_socket_option, 2, level, CFG_I64, .doc = "As setsockopt(2) takes it."),
    FIELD(struct cfg_socket_option, 3, name, CFG_I64, .doc = "Likewise, a number."),
    FIELD(struct cfg_socket_option, 4, int_value, CFG_I64, VALUE, .doc = "An int."),
    FIELD(struct cfg_socket_option, 5, buf_value, CFG_BYTES, VALUE, .doc = "A struct's bytes."),
    ENUM(struct cfg_socket_option, 6, state, state_enum, .default_text = "STATE_PREBIND",
         .doc = "When it is set: before bind(2), after it, or after listen(2)."),
};
static const struct cfg_missing option_missing[] = {{7, "type"}};
const struct cfg_schema cfg_schema_socket_option = {
    .name = "envoy.config.core.v3.SocketOption",
    .doc = "A call of setsockopt(2).",
    .size = sizeof(struct cfg_socket_option),
    MARK(struct cfg_socket_option),
    FIELDS(option_fields),
    MISSING(option_missing),
};
