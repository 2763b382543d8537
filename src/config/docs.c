#include "config/config.h"
void cfg_print_docs(FILE *out) {
    (void)out;
}
void cfg_print_schema_json(FILE *out) {
    (void)out;
}
