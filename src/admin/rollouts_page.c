/* rollouts_page: /config/rollouts: route configurations that go out by degrees, as JSON; a POST by which such a rollout ends;
 * and how pages show a rollout. */
#include "admin/page.h"
#include "admin/rollout_view.h"
#include "proxy/rollout.h"
#include "proxy/route_rollout.h"
#include "rt/foreign.h"

void rollout_put_fields(struct json *json, struct rollout *rollout) {
    static const char *const versions[] = {"old", "new"};
    struct rollout_view view;
    rollout_look(rollout, &view);
    json_field(json, "state", span_of(rollout_state_names[view.state]));
    json_field(json, "version", span_of(view.version));
    json_field_u64(json, "step", view.step);
    json_field_u64(json, "steps", view.steps);
    json_field_u64(json, "share_percent", view.share * 100 / ROLLOUT_SHARE_ALL);
    json_field(json, "why", span_of(view.why));
    for (unsigned v = 0; v < ROLLOUT_VERSIONS; v++) {
        json_key(json, versions[v]);
        json_open(json, '{');
        json_field_u64(json, "requests", view.of[v].requests);
        json_field_u64(json, "errors", view.of[v].errors);
        json_field_u64(json, "mean_us", view.of[v].mean_us);
        json_close(json, '}');
    }
}

static void put_row(const char *id, struct rollout *rollout, void *arg) {
    struct json *json = arg;
    json_open(json, '{');
    json_field(json, "route_config", span_of(id));
    rollout_put_fields(json, rollout);
    json_close(json, '}');
}

void page_config_rollouts(const struct query *query, struct page *page) {
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    page->content_type = content_type_json;
    json_open(&json, '{');
    json_key(&json, "rollouts");
    json_open(&json, '[');
    route_rollouts_each(put_row, &json);
    json_close(&json, ']');
    json_close(&json, '}');
    text_puts(&page->body, "\n");
}

struct order {
    struct rollout *rollout;
    bool promote;
    bool was_rolling;
};

static void carry_out(void *arg) {
    struct order *order = arg;
    order->was_rolling = rollout_conclude(order->rollout, order->promote, "by hand");
}

void page_config_rollout(const struct query *query, struct page *page) {
    struct span action = query_find(query, "action"), id = query_find(query, "route_config");
    struct order order = {.rollout = route_rollout_find(id),
                          .promote = span_eq(action, SPAN_LIT("promote"))};
    if (!order.promote && !span_eq(action, SPAN_LIT("withdraw")))
        page_fail(page, 400, "action is promote or withdraw\n");
    else if (!order.rollout)
        page_fail(page, 404, "no route_config '%.*s' has been rolled out: /config/rollouts\n",
                  (int)id.len, id.ptr);
    else if (blocking_call(carry_out, &order) != 0)
        page_fail(page, 503, "there is no thread to do it on: try again\n");
    else if (!order.was_rolling)
        page_fail(page, 409, "%.*s: nothing is being rolled out\n", (int)id.len, id.ptr);
    else
        text_printf(&page->body, "%.*s: %s\n", (int)id.len, id.ptr,
                    order.promote ? "the new one serves all" : "the new one is withdrawn");
}
