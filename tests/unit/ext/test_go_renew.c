/* go_renew.c: however a file comes to be another one, it is loaded once, whole; who loads it is made up here. */
#include "../rt/rt_story.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "../file_tree.h"
#include "elf_image.h"
#include "ext/go/go_renew.h"
#include "io/file_watch.h"

static char path[64];
static struct go_renewal renewal;

/* What serves, and what was tried. The renewal's lock, or the story while no attempt is going on. */
static struct {
    struct go_file serving;
    bool serves, was_whole;
    _Atomic(const char *) refuse; /* what take says */
    _Atomic unsigned takes, concluded[3];
    _Atomic unsigned attempts; /* concluded in all */
    char why[256];
} it;

static bool serving(void *arg, struct go_file *out) {
    *out = it.serving;
    return it.serves;
}

static enum go_renewed take(void *arg, struct go_attempt *attempt, struct go_file *file) {
    it.was_whole = go_file_is_whole(file);
    it.takes++;
    const char *refuse = it.refuse;
    if (refuse) {
        go_file_close(file);
        return go_attempt_say(attempt, GO_RENEW_FAILED, "%s", refuse);
    }
    if (it.serves)
        go_file_close(&it.serving);
    it.serving = *file;
    it.serves = true;
    return go_attempt_say(attempt, GO_RENEW_DONE, "it serves");
}

static void conclude(void *arg, const struct go_attempt *attempt, const char *why) {
    it.concluded[attempt->result]++;
    snprintf(it.why, sizeof it.why, "%s", why);
    it.attempts++;
}

static const struct go_renewal_itab itab = {.serving = serving, .take = take, .conclude = conclude};
static const struct go_renewal_itab itab_anew = {
    .serving = serving, .take = take, .conclude = conclude, .same_by_hand = true};

static const struct elf_image *library(const char *id) {
    static const char *const names[] = {ELF_IMAGE_31, NULL};
    static struct elf_image image;
    elf_make(&image, names, NULL);
    const struct elf_note notes[] = {{"GNU", NT_GNU_BUILD_ID, id, strlen(id)}, {0}};
    elf_add_notes(&image, notes, 4);
    return &image;
}

static void put_at(const char *to, const char *bytes, size_t from, size_t size, int flags) {
    int fd = open(to, O_WRONLY | flags, 0644);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, bytes, size, (off_t)from) == (ssize_t)size);
    CHECK(close(fd) == 0);
}

static void replace(const char *bytes, size_t size) {
    char part[80];
    snprintf(part, sizeof part, "%s.part", path);
    put_at(part, bytes, 0, size, O_CREAT | O_TRUNC);
    CHECK(rename(part, path) == 0);
}

static void install(const char *id) {
    const struct elf_image *image = library(id);
    replace(image->bytes, image->size);
}

static enum go_renewed by_hand(void) {
    char *why;
    enum go_renewed result = go_renewal_now(&renewal, &why);
    free(why);
    return result;
}

/* "one" serves. */
static void begin(const struct go_renewal_itab *with) {
    install("one");
    go_renewal_init(&renewal, "lib", path, with, NULL);
    CHECK(by_hand() == GO_RENEW_DONE);
    CHECK(it.takes == 1);
}

static void begin_watching(void) {
    begin(&itab);
    unsigned before = it.attempts;
    go_renewal_watch(&renewal);
    CHECK(file_watch_run() == 0);
    STORY_AWAIT(it.attempts > before); /* the first look */
}

static void watched_story(void *arg) {
    begin_watching();
    install("two");
    STORY_AWAIT(it.takes == 2 && it.concluded[GO_RENEW_DONE] == 2);
    /* The same once more changes nothing, wherever it lies. */
    unsigned before = it.attempts;
    install("two");
    STORY_AWAIT(it.attempts > before);
    CHECK(strstr(it.why, "is this build"));
    CHECK(it.takes == 2);
    CHECK(it.concluded[GO_RENEW_FAILED] == 0);
    rt_stop(0);
}
static void a_file_that_is_replaced_is_taken_once(void **state) {
    story(1, watched_story);
}

/* Each piece is an event, and from the first one on the file announces what it is going to be: the old one's end is there as
 * long as the new one's is not. */
static void pieces_story(void *arg) {
    begin_watching();
    const struct elf_image *two = library("two");
    enum { PIECES = 8 };
    size_t piece = (two->size + PIECES - 1) / PIECES;
    for (size_t at = 0; at < two->size; at += piece) {
        put_at(path, two->bytes + at, at, at + piece < two->size ? piece : two->size - at, 0);
        CHECK(rt_sleep_until(clock_mono_ns() + 70 * NS_PER_MS) ==
              0); /* longer than events are gathered */
    }
    STORY_AWAIT(it.concluded[GO_RENEW_DONE] == 2);
    CHECK(it.takes == 2);
    CHECK(it.was_whole);
    CHECK(it.concluded[GO_RENEW_FAILED] == 0);
    rt_stop(0);
}
static void a_file_that_is_written_over_in_pieces_is_taken_when_all_are_there(void **state) {
    story(1, pieces_story);
}

/* As cp does after an unlink, and scp to where there is none: another inode, of which the end is missing. */
static void growing_story(void *arg) {
    begin_watching();
    const struct elf_image *two = library("two");
    CHECK(unlink(path) == 0);
    size_t half = two->size / 2;
    put_at(path, two->bytes, 0, half, O_CREAT);
    CHECK(rt_sleep_until(clock_mono_ns() + 300 * NS_PER_MS) == 0);
    CHECK(it.takes == 1);
    put_at(path, two->bytes + half, half, two->size - half, 0);
    STORY_AWAIT(it.concluded[GO_RENEW_DONE] == 2);
    CHECK(it.takes == 2);
    CHECK(it.was_whole);
    CHECK(it.concluded[GO_RENEW_FAILED] == 0);
    rt_stop(0);
}
static void a_file_that_grows_is_taken_when_it_has_grown(void **state) {
    story(1, growing_story);
}

/* Half a file that stays half of one is a broken one. */
static void broken_story(void *arg) {
    begin_watching();
    const struct elf_image *two = library("two");
    int64_t since_ns = clock_mono_ns();
    it.refuse = "half of it";
    replace(two->bytes, two->size / 2);
    STORY_AWAIT(it.concluded[GO_RENEW_FAILED] == 1);
    CHECK(!it.was_whole);
    CHECK(clock_mono_ns() - since_ns >= NS_PER_S);
    rt_stop(0);
}
static void a_file_that_stays_half_is_broken(void **state) {
    story(1, broken_story);
}

static void failed_story(void *arg) {
    begin_watching();
    it.refuse = "not this one";
    install("two");
    STORY_AWAIT(it.concluded[GO_RENEW_FAILED] == 1);
    unsigned before = it.attempts;
    put_at(path, "", 0, 0, 0); /* an event, and no change */
    STORY_AWAIT(it.attempts > before);
    CHECK(strstr(it.why, "failed before"));
    CHECK(it.takes == 2);
    it.refuse = NULL;
    install("three");
    STORY_AWAIT(it.concluded[GO_RENEW_DONE] == 2);
    install("two"); /* whatever became of it earlier */
    STORY_AWAIT(it.concluded[GO_RENEW_DONE] == 3);
    rt_stop(0);
}
static void a_file_that_failed_is_tried_again_when_it_has_changed(void **state) {
    story(1, failed_story);
}

static void by_hand_story(void *arg) {
    begin(&itab);
    CHECK(by_hand() == GO_RENEW_UNCHANGED);
    it.refuse = "not this one";
    install("two");
    CHECK(by_hand() == GO_RENEW_FAILED);
    CHECK(by_hand() == GO_RENEW_FAILED); /* the cause may lie outside */
    CHECK(it.takes == 3);
    CHECK(unlink(path) == 0);
    CHECK(by_hand() == GO_RENEW_FAILED);
    CHECK(strstr(it.why, "No such file"));
    CHECK(it.takes == 3);
    it.refuse = NULL;
    install("one");
    CHECK(by_hand() == GO_RENEW_UNCHANGED); /* back to what serves */
    rt_stop(0);
}
static void who_asks_by_hand_is_served_each_time(void **state) {
    story(1, by_hand_story);
}

static void anew_story(void *arg) {
    begin(&itab_anew);
    CHECK(by_hand() == GO_RENEW_DONE);
    CHECK(it.takes == 2);
    rt_stop(0);
}
static void where_it_costs_nothing_the_same_build_is_loaded_anew(void **state) {
    story(1, anew_story);
}

/* Who has left does not make a broken file of one that is being written. */
static void left_story(void *arg) {
    begin(&itab);
    put_at(path, library("two")->bytes, 0, 4096, 0); /* the old one's inode */
    rt_cancel(rt_self());
    CHECK(by_hand() == GO_RENEW_FAILED);
    rt_cancel_clear();
    CHECK(it.takes == 1);
    CHECK(it.attempts == 1);
    rt_stop(0);
}
static void who_leaves_while_a_file_is_written_has_done_nothing(void **state) {
    story(1, left_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_is_replaced_is_taken_once),
        cmocka_unit_test(a_file_that_is_written_over_in_pieces_is_taken_when_all_are_there),
        cmocka_unit_test(a_file_that_grows_is_taken_when_it_has_grown),
        cmocka_unit_test(a_file_that_stays_half_is_broken),
        cmocka_unit_test(a_file_that_failed_is_tried_again_when_it_has_changed),
        cmocka_unit_test(who_asks_by_hand_is_served_each_time),
        cmocka_unit_test(who_leaves_while_a_file_is_written_has_done_nothing),
        cmocka_unit_test(where_it_costs_nothing_the_same_build_is_loaded_anew),
    };
    int err = make_root(NULL);
    snprintf(path, sizeof path, "%s/library.so", root);
    err = err ? err : cmocka_run_group_tests(tests, NULL, NULL);
    (void)remove_root(NULL);
    return err;
}
