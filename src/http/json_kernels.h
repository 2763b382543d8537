/* json_kernels: what there is to choose from; each stands in a file of its own, for its own compiler options. */
#pragma once
#include "http/json_scan.h"

#ifdef __x86_64__
extern const struct json_kernel json_kernel_avx2, json_kernel_sse2;
#endif
extern const struct json_kernel json_kernel_words;
