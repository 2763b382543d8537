/* serving_story: a snapshot's only listener, served as the process would. */
#pragma once
#include "proxy/listener_manager.h"

static void serving_story_note(const struct listener *at, void *arg) {
    const struct listener **out = arg;
    *out = at;
}

/* Borrowed for the process's life. */
static const struct listener *serving_story_begin(struct snapshot *snapshot) {
    const struct listener *listener = NULL;
    struct cfg_problems problems = {0};
    listener_manager_init(&(struct listener_manager_options){0});
    struct listener_change *change = listener_change_prepare(snapshot, &problems);
    if (!change)
        cfg_problems_print(&problems, stderr);
    CHECK(change);
    listener_change_publish(change);
    listener_manager_each(serving_story_note, &listener);
    return listener;
}
