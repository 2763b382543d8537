/* replay_main: stands in for libFuzzer in ordinary builds, so that every committed input runs with
 * the unit tests and under each sanitizer.
 *
 * Each input is given twice: whole, and in a block that ends at an unreadable page, where one byte
 * read too far is a fault even without ASan. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { INPUT_SIZE_MAX = 1 << 20 }; /* libFuzzer makes inputs of a few KiB; a seed is no larger */

static size_t read_input(const char *path, uint8_t *into) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t size_bytes = fread(into, 1, INPUT_SIZE_MAX, file);
    int cut_short = ferror(file) || fgetc(file) != EOF;
    (void)fclose(file); /* only read from */
    if (cut_short) {
        fprintf(stderr, "%s: unreadable, or longer than %d bytes\n", path, INPUT_SIZE_MAX);
        exit(1);
    }
    return size_bytes;
}

static void run_at_guard_page(const uint8_t *data, size_t size_bytes) {
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t map_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes + page_bytes;
    uint8_t *map =
        mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + map_bytes - page_bytes, page_bytes, PROT_NONE) != 0) {
        perror("guard page");
        exit(1);
    }
    uint8_t *at = map + map_bytes - page_bytes - size_bytes;
    memcpy(at, data, size_bytes);
    (void)LLVMFuzzerTestOneInput(at, size_bytes);
    (void)munmap(map, map_bytes);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 2;
    }
    DIR *folder = opendir(argv[1]);
    if (folder == NULL) {
        perror(argv[1]);
        return 1;
    }
    uint8_t *input = malloc(INPUT_SIZE_MAX);
    if (input == NULL)
        return 1;
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        size_t size_bytes = read_input(path, input);
        uint8_t *exact = malloc(size_bytes + (size_bytes == 0)); /* ASan sees its very end */
        if (exact == NULL)
            return 1;
        memcpy(exact, input, size_bytes);
        (void)LLVMFuzzerTestOneInput(exact, size_bytes);
        free(exact);
        run_at_guard_page(input, size_bytes);
        count++;
    }
    free(input);
    closedir(folder);
    printf("%u inputs\n", count);
    return count == 0; /* a target without seeds would pass for nothing */
}
