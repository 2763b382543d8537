/* go_value: what the SDK knows of a stream by number (enum go_value), beside its properties.
 *
 * Threads  Whoever may look at the subject. */
#pragma once
#include "io/address.h"
#include "proxy/attribute.h"

/* The absent span: there is none, or the number is not a text's. Borrows from the subject, or is in text. */
struct span go_value_text(const struct attribute_subject *of, int id,
                          char text[ADDRESS_TEXT_MAX] BORROWED_BY(result));
/* False: there is none, or the number is not a number's. */
MUST_CHECK bool go_value_number(const struct attribute_subject *of, int id, uint64_t *value);
