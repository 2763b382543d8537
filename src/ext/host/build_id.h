/* build_id: which build a library is, by what its linker noted in it: two files of one build have one id, wherever
 * they lie, and one that was built from something else has another.
 *
 * The bytes come from whoever wrote the file: anything may be in them. Reads the file's header, its table of
 * segments and the notes, a few hundred bytes, at places of their own: the descriptor's position stays.
 *
 * Ownership  Everything is copied out of the file; the descriptor is borrowed. Threads: any real thread, as reading may
 *            block. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUILD_ID_MAX = 256, BUILD_ID_TEXT_MAX = 2 * BUILD_ID_MAX + 1 };

struct build_id {
    unsigned char bytes[BUILD_ID_MAX];
    size_t len;             /* 0: the file has none that tells builds apart */
    size_t gnu_at, gnu_len; /* among them the linker's, which tools show; 0: there is none */
};

void build_id_read(int fd, struct build_id *out);
/* Files of one build, as far as ids tell. Without ids none is: what else tells files apart is for the caller to ask. */
bool build_id_eq(const struct build_id *a, const struct build_id *b);
/* Equal for equal ids, wherever they are. */
uint64_t build_id_hash(const struct build_id *id);
/* The linker's id in hexadecimal, as tools show it; empty: there is none. */
void build_id_text(const struct build_id *id, char out[BUILD_ID_TEXT_MAX]);
