/* go_plugin.c: which plugins' calls get threads of their own, because they block. */
#include "../rt/rt_story.h"
#include "ext/go/go_plugin.h"

static struct go_library library = {.id = (char[]){"a library"}};

enum { QUICK_NS = 2000 };

static void calls(struct go_plugin *plugin, unsigned count, uint64_t took_ns) {
    for (unsigned i = 0; i < count; i++)
        go_plugin_called(plugin, 0, took_ns, seat_blocked_ns);
}

static struct go_plugin *plugin_named(const char *name) {
    struct go_plugin *plugin = go_plugin_get(&library, GO_PLUGIN_HTTP, span_of(name));
    CHECK(plugin && !go_plugin_blocks(plugin));
    return plugin;
}

static void score_story(void *arg) {
    CHECK(stats_init(1) == 0);
    struct go_plugin *plugin = plugin_named("blocks in one of five calls");
    for (int i = 0; i < 4; i++) {
        calls(plugin, 4, QUICK_NS);
        calls(plugin, 1, go_plugin_blocks_ns);
    }
    CHECK(go_plugin_blocks(plugin));
    CHECK(go_plugin_is_wary(plugin));
    for (int i = 0; i < 100; i++) {
        calls(plugin, 1, go_plugin_blocks_ns);
        calls(plugin, 4, QUICK_NS);
        CHECK(go_plugin_blocks(plugin)); /* whichever of its calls it is */
    }
    calls(plugin, GO_PLUGIN_SCORE_MAX, QUICK_NS);
    CHECK(!go_plugin_blocks(plugin)); /* it has stopped to */

    plugin = plugin_named("is not let run now and then");
    for (int i = 0; i < 100; i++) {
        calls(plugin, 20, QUICK_NS);
        calls(plugin, 1, 3 * go_plugin_blocks_ns);
        CHECK(!go_plugin_blocks(plugin));
    }
    plugin = plugin_named("computes for long");
    calls(plugin, 1000, go_plugin_blocks_ns - 1);
    CHECK(!go_plugin_blocks(plugin));
    CHECK(go_plugin_is_wary(plugin));
    rt_stop(0);
}

static void who_blocks_often_is_known_for_it(void **state) {
    story(1, score_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_blocks_often_is_known_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
