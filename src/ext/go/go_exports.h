/* go_exports: the functions that a Go library calls, Envoy's names and C types.
 *
 * Threads  Any, also ones the runtime never made, also long after the request they speak of. Each
 *          takes the stream's lock for its whole length and touches nothing outside of the stream.
 * Codes    enum go_code. The gates come in this order: side not in Go -3, destroyed -2. A NULL process
 *          state (a plugin used the callbacks of a side that has not begun) is -3.
 * Strings  Inputs are Go memory, borrowed until the return: whatever is kept is copied. Outputs that
 *          are lent (GetHeader, GetStringValue) live until Finalize. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Resolved by the dynamic loader from the executable. */
#define GO_EXPORT __attribute__((visibility("default")))

/* X(return type, name, parameters): one list for declarations and for go_export_is_known. */
#define GO_EXPORTS(X)                                                                              \
    X(int, envoyGoFilterHttpContinue, (void *s, int status))                                       \
    X(int, envoyGoFilterHttpSendLocalReply,                                                        \
      (void *s, int status, void *body, int body_len, void *headers, int header_count,             \
       long long grpc_status, void *details, int details_len))                                     \
    X(int, envoyGoFilterHttpSendPanicReply, (void *s, void *details, int details_len))             \
    X(int, envoyGoFilterHttpAddData, (void *s, void *data, int len, bool streaming))               \
    X(int, envoyGoFilterHttpGetHeader,                                                             \
      (void *s, void *key, int key_len, uint64_t *value, int *value_len))                          \
    X(int, envoyGoFilterHttpCopyHeaders, (void *s, void *strings, void *bytes))                    \
    X(int, envoyGoFilterHttpSetHeaderHelper,                                                       \
      (void *s, void *key, int key_len, void *value, int value_len, int action))                   \
    X(int, envoyGoFilterHttpRemoveHeader, (void *s, void *key, int key_len))                       \
    X(int, envoyGoFilterHttpGetBuffer, (void *s, uint64_t handle, void *out))                      \
    X(int, envoyGoFilterHttpDrainBuffer, (void *s, uint64_t handle, uint64_t n))                   \
    X(int, envoyGoFilterHttpSetBufferHelper,                                                       \
      (void *s, uint64_t handle, void *data, int len, int action))                                 \
    X(int, envoyGoFilterHttpCopyTrailers, (void *s, void *strings, void *bytes))                   \
    X(int, envoyGoFilterHttpSetTrailer,                                                            \
      (void *s, void *key, int key_len, void *value, int value_len, int action))                   \
    X(int, envoyGoFilterHttpRemoveTrailer, (void *s, void *key, int key_len))                      \
    X(int, envoyGoFilterHttpClearRouteCache, (void *r, bool refresh))                              \
    X(int, envoyGoFilterHttpGetStringValue, (void *r, int id, uint64_t *value, int *value_len))    \
    X(int, envoyGoFilterHttpGetIntegerValue, (void *r, int id, uint64_t *value))                   \
    X(int, envoyGoFilterHttpGetDynamicMetadata,                                                    \
      (void *r, void *name, int name_len, uint64_t *value, int *value_len))                        \
    X(int, envoyGoFilterHttpSetDynamicMetadata,                                                    \
      (void *r, void *name, int name_len, void *key, int key_len, void *value, int value_len))     \
    X(int, envoyGoFilterHttpSetStringFilterState,                                                  \
      (void *r, void *key, int key_len, void *value, int value_len, int type, int span,            \
       int sharing))                                                                               \
    X(int, envoyGoFilterHttpGetStringFilterState,                                                  \
      (void *r, void *key, int key_len, uint64_t *value, int *value_len))                          \
    X(int, envoyGoFilterHttpGetStringProperty,                                                     \
      (void *r, void *key, int key_len, uint64_t *value, int *value_len, int *code))               \
    X(void, envoyGoFilterHttpFinalize, (void *r, int reason))                                      \
    X(void, envoyGoConfigHttpFinalize, (void *config))                                             \
    X(int, envoyGoFilterHttpDefineMetric,                                                          \
      (void *config, uint32_t type, void *name, int name_len, uint32_t *id))                       \
    X(int, envoyGoFilterHttpIncrementMetric, (void *config, uint32_t id, int64_t offset))          \
    X(int, envoyGoFilterHttpGetMetric, (void *config, uint32_t id, uint64_t *value))               \
    X(int, envoyGoFilterHttpRecordMetric, (void *config, uint32_t id, uint64_t value))             \
    X(void, envoyGoFilterLog, (uint32_t level, void *text, int len))                               \
    X(uint32_t, envoyGoFilterLogLevel, (void))                                                     \
    X(int, envoyGoFilterDownstreamClose, (void *w, int type))                                      \
    X(int, envoyGoFilterDownstreamWrite, (void *w, void *data, int len, int end))                  \
    X(void, envoyGoFilterDownstreamFinalize, (void *w, int reason))                                \
    X(int, envoyGoFilterDownstreamInfo, (void *w, int type, void *out))                            \
    X(void *, envoyGoFilterUpstreamConnect, (void *library_id, void *address, uint64_t id))        \
    X(int, envoyGoFilterUpstreamConnEnableHalfClose, (void *w, int enable))                        \
    X(int, envoyGoFilterUpstreamWrite, (void *w, void *data, int len, int end))                    \
    X(int, envoyGoFilterUpstreamClose, (void *w, int type))                                        \
    X(void, envoyGoFilterUpstreamFinalize, (void *w, int reason))                                  \
    X(int, envoyGoFilterUpstreamInfo, (void *w, int type, void *out))                              \
    X(int, envoyGoFilterSetFilterState,                                                            \
      (void *w, void *key, void *value, int type, int span, int sharing))                          \
    X(int, envoyGoFilterGetFilterState, (void *w, void *key, void *out))                           \
    X(int, envoyGoClusterSpecifierGetHeader, (uint64_t header, void *key, void *out))              \
    X(void, envoyGoClusterSpecifierLogError, (uint64_t plugin, void *text))

#define X(type, name, params) GO_EXPORT type name params;
GO_EXPORTS(X)
#undef X
