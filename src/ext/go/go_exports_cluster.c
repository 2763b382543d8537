/* go_exports_cluster: what a cluster specifier may ask of the request whose cluster it names.
 *
 * Strings  GoString, by address. Inputs are borrowed until the return; outputs are texts in quarantine
 *          (go_quarantine.h), as the SDK does not copy them. */
#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_exports.h"
#include "ext/go/go_log.h"
#include "ext/go/go_question.h"
#include "http/header_map.h"

enum { NOT_FOUND = 0, FOUND = 1, KEY_MAX = 1024 };

/* header: the handle that the plugin was called with. A stale one finds nothing. */
int envoyGoClusterSpecifierGetHeader(uint64_t header, void *key, void *out) {
    const struct go_string *name = key;
    struct go_string *result = out;
    char lower[KEY_MAX];
    struct go_question *question = handle_lease(&ext_handles, header, go_question_key);
    if (!question) {
        go_stats_count(GO_STALE_HANDLES, 1);
        return NOT_FOUND;
    }
    struct span text = span_none();
    if (name->len > 0 && name->len <= KEY_MAX) {
        for (int64_t i = 0; i < name->len; i++) {
            char c = name->ptr[i];
            lower[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
        }
        struct span wanted = span_make(lower, (size_t)name->len);
        if (span_eq(wanted, SPAN_LIT("host")))
            wanted = SPAN_LIT(":authority");
        pthread_mutex_lock(&question->lock);
        question->counts.crossings++;
        if (question->headers)
            text = header_get_name(question->headers, wanted);
        if (!span_is_none(text))
            text = go_quarantine_keep(&question->texts, text);
        if (!span_is_none(text))
            question->counts.header_bytes_to_go += text.len;
        pthread_mutex_unlock(&question->lock);
    }
    handle_release(&ext_handles, header);
    if (span_is_none(text))
        return NOT_FOUND;
    *result = (struct go_string){text.ptr, (int64_t)text.len};
    return FOUND;
}

/* plugin: as it was called with; what panicked tells the text. */
void envoyGoClusterSpecifierLogError(uint64_t plugin, void *text) {
    const struct go_string *message = text;
    if (message->len > 0)
        go_log_say(LOG_ERROR, span_make(message->ptr, (size_t)message->len));
}
