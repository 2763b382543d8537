/* json_kernels: what there is to choose from; each stands in a file of its own, for its own compiler options. */
#pragma once
#include "http/json_scan.h"

#if defined(__x86_64__) && defined(__SSE2__)
#define JSON_HAS_VECTORS
#endif

#ifdef JSON_HAS_VECTORS
extern const struct json_kernel json_kernel_avx2, json_kernel_sse2;
#endif
extern const struct json_kernel json_kernel_words;
