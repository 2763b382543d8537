/* native_filter: the chain's calls, handed on to the plug-in.
 *
 * Once an instance has faulted nothing of it is called: its memory may be half changed. What Sluice holds for it goes with
 * the exchange as always. The plug-in's other instances go on, until there were too many faults. */
#include "ext/native/native_filter.h"

#include <errno.h>
#include <stdlib.h>

#include "config/native_config.h"
#include "ext/native/native_host.h"
#include "ext/native/native_remote.h"
#include "proxy/exchange_log.h"
#include "rt/stack_call.h"

LOG_COMPONENT(native, "native");

/* ---- calls ---- */

struct guarded {
    const struct native_text *text;
    rt_fn enter;
    void *arg;
    struct native_fault *fault;
    bool returned;
};

static void guarded_call(void *arg) {
    struct guarded *call = arg;
    call->returned = native_call(call->text, call->enter, call->arg, call->fault);
}

void native_filter_fail(struct sluice_exchange *e, unsigned status, struct span details) {
    const struct local_reply reply = {
        .status = status, .details = details, .grpc_status = GRPC_STATUS_UNSET};
    exchange_reply(e->x, &reply);
}

void native_filter_lost(struct sluice_exchange *e) {
    native_filter_fail(e, 503, SPAN_LIT("native_host_lost"));
}

void native_filter_faulted(struct sluice_exchange *e, const struct native_fault *fault,
                           const char *what) {
    e->state = NATIVE_FAULTED;
    native_library_faulted(e->config->library, fault, what, e->x->shard);
    native_filter_fail(e, 500, SPAN_LIT("native_filter_fault"));
}

bool native_filter_call(struct sluice_exchange *e, const char *what, rt_fn enter, void *arg) {
    if (e->state != NATIVE_RUNS)
        return false;
    struct native_fault fault;
    struct guarded call = {&e->config->library->text, enter, arg, &fault, false};
    struct doing *doing = exchange_doing(e->x);
    const struct doing_labels *former = doing_swap_filter(doing, &e->factory->labels);
    int err = 0;
    if (e->config->stack_bytes)
        err = stack_call(e->config->stack_bytes, guarded_call, &call);
    else
        guarded_call(&call);
    doing_filter(doing, former);
    if (__builtin_expect(call.returned, 1))
        return true;
    if (err)
        native_filter_fail(e, 500, SPAN_LIT("native_filter_out_of_memory"));
    else
        native_filter_faulted(e, &fault, what);
    return false;
}

/* ---- the filter's functions ---- */

struct hook_call {
    void (*fn)(struct sluice_exchange *e, void *self);
    struct sluice_exchange *e;
};

static NATIVE_ENTER void enter_hook(void *arg) {
    struct hook_call *call = arg;
    call->fn(call->e, call->e->self);
    NATIVE_ENTERED();
}

static NATIVE_ENTER void enter_create(void *arg) {
    struct sluice_exchange *e = arg;
    e->self = e->config->library->plugin.create(e, e->config->made);
    NATIVE_ENTERED();
}

static void call_hook(struct sluice_exchange *e, const char *what, enum remote_function function,
                      void (*fn)(struct sluice_exchange *e, void *self)) {
    if (e->remote) {
        native_remote_hook(e->remote, function);
        return;
    }
    struct hook_call call = {fn, e};
    if (fn && !native_filter_call(e, what, enter_hook, &call))
        return; /* answered */
}

static bool has_faulted_enough(const struct native_config *config) {
    return config->max_faults && atomic_load_explicit(&config->library->faults,
                                                      memory_order_relaxed) >= config->max_faults;
}

static void *create(struct exchange *x, const struct filter_factory *factory) {
    const struct native_config *config = factory->config;
    struct sluice_exchange *e = arena_alloc(&x->arena, sizeof *e);
    if (!e)
        return NULL;
    *e = (struct sluice_exchange){
        .x = x, .factory = factory, .config = config, .self = config->made};
    if (__builtin_expect(has_faulted_enough(config), 0))
        e->state = config->bypass ? NATIVE_BYPASSED : NATIVE_CLOSED;
    else if (config->library->remote)
        return (e->remote = native_remote_new(e)) ? e : NULL; /* created with its first call */
    else if (config->library->plugin.create && native_filter_call(e, "create", enter_create, e) &&
             !e->self)
        return NULL;
    return e;
}

static void request(struct exchange *x, void *self) {
    struct sluice_exchange *e = self;
    if (e->state == NATIVE_BYPASSED)
        stat_inc(e->config->library->stats.bypassed, x->shard);
    if (e->state == NATIVE_CLOSED) {
        stat_inc(e->config->library->stats.closed, x->shard);
        native_filter_fail(e, 500, SPAN_LIT("native_filter_closed"));
    }
    call_hook(e, "request", REMOTE_REQUEST, e->config->library->plugin.request);
}

static void response(struct exchange *x, void *self) {
    struct sluice_exchange *e = self;
    call_hook(e, "response", REMOTE_RESPONSE, e->config->library->plugin.response);
}

/* On a coroutine that is not the exchange's. The plug-in does not park in it, so nobody else of the exchange runs. */
static void log_between(struct sluice_exchange *e) {
    struct exchange_moment aside;
    e->looks_on = true;
    exchange_moment_begin(e->x, &aside);
    call_hook(e, "log_periodic", REMOTE_PERIODIC, e->config->library->plugin.log_periodic);
    exchange_moment_end(e->x, &aside);
    e->looks_on = false;
}

static void log_it(struct exchange *x, void *self, enum filter_log_phase phase) {
    struct sluice_exchange *e = self;
    const struct sluice_plugin *plugin = &e->config->library->plugin;
    if (phase == FILTER_LOG_END)
        call_hook(e, "log", REMOTE_LOG_END, plugin->log);
    else if (phase == FILTER_LOG_START)
        call_hook(e, "log_start", REMOTE_START, plugin->log_start);
    else if (e->remote)
        native_remote_hook(e->remote, REMOTE_PERIODIC);
    else if (plugin->log_periodic)
        log_between(e);
}

static void destroy(struct exchange *x, void *self) {
    struct sluice_exchange *e = self;
    call_hook(e, "destroy", REMOTE_DESTROY, e->config->library->plugin.destroy);
    if (e->remote)
        native_remote_end(e->remote);
    e->state = NATIVE_BYPASSED; /* what it put before a body is still to be closed */
    for (unsigned i = 0; i < e->held_count; i++)
        free(e->held[i]);
}

static void label(const void *arg, struct doing_labels *labels) {
    const struct native_config *config = arg;
    if (!config->library)
        return;
    doing_labels_add(labels, "library", span_of(config->library->path));
    doing_labels_add(labels, "plugin", span_of(config->library->name));
}

static const struct filter_itab native_itab = {
    .name = "sluice.filters.http.native",
    .create = create,
    .request = request,
    .response = response,
    .log = log_it,
    .destroy = destroy,
};

const struct filter_kind filter_kind_native = {
    .itab = &native_itab,
    .schema = &cfg_schema_native,
    .route_schema = &cfg_schema_native_per_route,
    .build = native_config_new,
    .free_config = native_config_free,
    .label = label,
    .build_route = native_route_config_new,
    .free_route = native_route_config_free,
};
