/* file_watch.c: however a file comes to be another one, who watches it is told; of its neighbours he hears nothing. */
#include "../rt/rt_story.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "../file_tree.h"
#include "io/file_watch.h"
#include "rt/foreign.h"

static int seen;     /* calls of `changed` */
static int released; /* of `release` */
static char last[32], expected[32];
static const char *watched_path;

static char *path_of(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

/* As a reader of certificates: it looks what is there now. */
static void changed(void *arg) {
    FILE *file = fopen(watched_path, "r");
    memset(last, 0, sizeof last);
    if (file) {
        size_t n = fread(last, 1, sizeof last - 1, file);
        CHECK(n < sizeof last);
        fclose(file);
    }
    seen++;
}

static void release(void *arg) {
    released++;
}

static struct file_watch *watch(const char *file, const char *directory) {
    static char kept[256];
    snprintf(kept, sizeof kept, "%s", path_of(file));
    watched_path = kept;
    struct span files[] = {span_of(kept)}, directories[] = {span_of(directory)};
    const struct file_watch_options options = {.files = files,
                                               .file_count = 1,
                                               .directories = directories,
                                               .directory_count = directory ? 1 : 0,
                                               .changed = changed,
                                               .release = release};
    int rc;
    struct file_watch *added = file_watch_add(&options, &rc);
    CHECK(added);
    CHECK(file_watch_run() == 0);
    STORY_AWAIT(seen > 0); /* the first look */
    return added;
}

static void expect(const char *text) {
    snprintf(expected, sizeof expected, "%s", text);
    STORY_AWAIT(strcmp(last, expected) == 0);
}

static void replace(const char *name, const char *text) {
    char next[64];
    snprintf(next, sizeof next, "/%s.next", name);
    write_file(next, text);
    CHECK(rename(path_of(next + 1), path_of(name)) == 0);
}

static void link_over(const char *target, const char *name) {
    char *next = path_of("link.next");
    CHECK(symlink(target, next) == 0);
    CHECK(rename(next, path_of(name)) == 0);
}

static void files_story(void *arg) {
    struct file_watch *added = watch("plain", NULL);
    write_file("/plain", "written in place");
    expect("written in place");
    replace("plain", "renamed over");
    expect("renamed over");
    CHECK(unlink(path_of("plain")) == 0);
    write_file("/plain", "made anew");
    expect("made anew");
    file_watch_remove(added);
    STORY_AWAIT(released == 1);
    rt_stop(0);
}
static void a_file_that_is_written_replaced_or_made_anew(void **state) {
    story(1, files_story);
}

/* ..data -> ..one, cert -> ..data/cert; then ..data -> ..two takes its place. */
static void kubernetes_story(void *arg) {
    write_file("/k/..one/cert", "one");
    write_file("/k/..two/cert", "two");
    write_file("/k/..three/cert", "three");
    link_over("..one", "k/..data");
    link_over("..data/cert", "k/cert");
    struct file_watch *added = watch("k/cert", NULL);
    expect("one");
    link_over("..two", "k/..data");
    expect("two");
    write_file("/k/..two/cert", "two, edited"); /* where the new link leads to is watched */
    expect("two, edited");
    link_over("..three", "k/..data");
    expect("three");
    file_watch_remove(added);
    rt_stop(0);
}
static void a_symbolic_link_that_leads_elsewhere(void **state) {
    story(1, kubernetes_story);
}

/* The directory itself is behind a link. */
static void linked_directory_story(void *arg) {
    write_file("/d/v1/cert", "v1");
    write_file("/d/v2/cert", "v2");
    link_over("v1", "d/current");
    struct file_watch *added = watch("d/current/cert", NULL);
    link_over("v2", "d/current");
    expect("v2");
    file_watch_remove(added);
    rt_stop(0);
}
static void a_link_to_the_directory(void **state) {
    story(1, linked_directory_story);
}

static void neighbours_story(void *arg) {
    write_file("/n/mine", "mine");
    struct file_watch *added = watch("n/mine", NULL);
    int before = seen;
    for (int i = 0; i < 20; i++)
        write_file("/n/others", "others");
    write_file("/n/mine", "mine, changed"); /* behind all of those events */
    expect("mine, changed");
    CHECK(seen <=
          before + 2); /* one for what was written, and one if it was looked at while it was */
    file_watch_remove(added);
    rt_stop(0);
}
static void other_files_of_the_directory_are_nothing(void **state) {
    story(1, neighbours_story);
}

static void directory_story(void *arg) {
    write_file("/w/trigger", "");
    write_file("/elsewhere/cert", "old");
    struct file_watch *added = watch("elsewhere/cert", path_of("w"));
    int before = seen;
    write_file("/w/any", "");
    STORY_AWAIT(seen > before);
    file_watch_remove(added);
    rt_stop(0);
}
static void anything_in_a_watched_directory(void **state) {
    story(1, directory_story);
}

/* What is not there is no error: it is told of when the directory's other files change. */
static void missing_story(void *arg) {
    write_file("/m/there", "");
    struct file_watch *added = watch("m/not-yet", NULL);
    write_file("/m/not-yet", "now");
    expect("now");
    file_watch_remove(added);
    STORY_AWAIT(released == 1);
    struct span nowhere = SPAN_INIT("/nowhere/at/all");
    const struct file_watch_options options = {
        .files = &nowhere, .file_count = 1, .changed = changed, .release = release};
    int rc;
    added = file_watch_add(&options, &rc);
    CHECK(added);
    file_watch_remove(added);
    STORY_AWAIT(released == 2);
    rt_stop(0);
}
static void a_file_that_is_not_there_yet(void **state) {
    story(1, missing_story);
}

/* As `rm -r` and a copy do, or two renames; and for a folder further up. */
static void folder_story(void *arg) {
    write_file("/up/f/file", "one");
    struct file_watch *added = watch("up/f/file", NULL);
    expect("one");
    CHECK(unlink(path_of("up/f/file")) == 0 && rmdir(path_of("up/f")) == 0);
    expect("");
    write_file("/up/f/file", "made anew");
    expect("made anew");
    write_file("/up/next/file", "another folder");
    CHECK(rename(path_of("up/f"), path_of("up/old")) == 0);
    CHECK(rename(path_of("up/next"), path_of("up/f")) == 0);
    expect("another folder");
    write_file("/up/f/file", "in the other folder");
    expect("in the other folder");
    write_file("/up2/f/file", "further up");
    CHECK(rename(path_of("up"), path_of("up1")) == 0);
    CHECK(rename(path_of("up2"), path_of("up")) == 0);
    expect("further up");
    file_watch_remove(added);
    rt_stop(0);
}
static void a_folder_that_goes_and_comes(void **state) {
    story(1, folder_story);
}

static void watched_folder_story(void *arg) {
    write_file("/w/file", "one");
    struct file_watch *added = watch("w/file", path_of("w/in"));
    expect("one");
    for (int i = 0; i < 2; i++) {
        int before = seen;
        write_file("/w/in/made", "");
        STORY_AWAIT(seen > before);
        before = seen;
        write_file("/w/in/made", "again");
        STORY_AWAIT(seen > before);
        before = seen;
        CHECK(unlink(path_of("w/in/made")) == 0 && rmdir(path_of("w/in")) == 0);
        STORY_AWAIT(seen > before);
    }
    file_watch_remove(added);
    rt_stop(0);
}
static void a_watched_directory_that_goes_and_comes(void **state) {
    story(1, watched_folder_story);
}

static void count(void *arg) {
    ++*(int *)arg;
}

static void let_go(void *arg) {
    (void)arg;
}

static struct file_watch *count_events(const char *file, enum file_watch_events events,
                                       int *counter) {
    struct span files[] = {span_of(path_of(file))};
    const struct file_watch_options options = {.files = files,
                                               .file_count = 1,
                                               .events = events,
                                               .changed = count,
                                               .release = let_go,
                                               .arg = counter};
    int rc;
    struct file_watch *added = file_watch_add(&options, &rc);
    CHECK(added);
    return added;
}

/* Who asks for whole files hears nothing of one that is only begun; who asks for moves hears of nothing else. The third
 * watch, the last that is looked at, says when the others would have heard. */
static void kinds_story(void *arg) {
    write_file("/e/moved", "");
    write_file("/e/last", "");
    int whole = 0, moved = 0, last_one = 0;
    struct file_watch *watches[] = {count_events("e/whole", FILE_WATCH_WHOLE, &whole),
                                    count_events("e/moved", FILE_WATCH_MOVED, &moved),
                                    count_events("e/last", FILE_WATCH_ANY, &last_one)};
    CHECK(file_watch_run() == 0);
    STORY_AWAIT(last_one > 0);
    int whole_before = whole, moved_before = moved, before = last_one;
    FILE *begun = fopen(path_of("e/whole"), "w");
    CHECK(begun);
    write_file("/e/moved", "written in place");
    write_file("/e/last", "told");
    STORY_AWAIT(last_one > before);
    CHECK(whole == whole_before && moved == moved_before);
    CHECK(fclose(begun) == 0);
    replace("e/moved", "moved");
    STORY_AWAIT(whole > whole_before && moved > moved_before);
    for (int i = 0; i < 3; i++)
        file_watch_remove(watches[i]);
    rt_stop(0);
}
static void only_what_was_asked_for(void **state) {
    story(1, kinds_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_is_written_replaced_or_made_anew),
        cmocka_unit_test(a_symbolic_link_that_leads_elsewhere),
        cmocka_unit_test(a_link_to_the_directory),
        cmocka_unit_test(other_files_of_the_directory_are_nothing),
        cmocka_unit_test(anything_in_a_watched_directory),
        cmocka_unit_test(a_file_that_is_not_there_yet),
        cmocka_unit_test(only_what_was_asked_for),
        cmocka_unit_test(a_folder_that_goes_and_comes),
        cmocka_unit_test(a_watched_directory_that_goes_and_comes),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
