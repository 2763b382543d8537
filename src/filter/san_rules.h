/* san_rules: which of a certificate's alternative names are welcome: match_typed_subject_alt_names.
 *
 * Ownership  Texts are the config's, which it must not outlive.
 * Threads    Built off the Ps, then read-only: any thread may match. Never parks. */
#pragma once
#include "config/config.h"
#include "config/tls_config.h"
#include "io/tls.h"

struct san_rules;

/* Of all parts together, one of whose matchers must match. *out NULL: all names are welcome. 0, -ENOMEM, or -EINVAL
 * with problems reported. */
MUST_CHECK int san_rules_build(const struct cfg_validation_context *const *parts, unsigned count,
                               struct cfg_problems *problems, struct san_rules **out);
void san_rules_free(void *names);
/* A tls_match_fn. */
bool san_rules_match(void *names, const struct tls_san *sans, size_t count);
/* What tells these from others. Borrowed. */
struct span san_rules_text(const struct san_rules *names);

/* Whether `pattern`, a name of a certificate, is for this host: equal, or with '*' in its first label, which stands for
 * a part of one label. Case does not matter. */
bool san_dns_name_matches(struct span name, struct span pattern);
