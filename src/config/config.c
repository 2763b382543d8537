/* config: one load from sources to an immutable, counted struct.
 *
 *    file -----------> tree --.
 *                              merge --> decode --> structs in the config's arena
 *    --config-yaml --> tree --'            |
 *                                          '------> problems, all of them
 *
 * C1  Trees and paths live in a scratch arena that goes when the load ends; only what the structs
 *     need is in the config's own.
 * C2  An allocation that fails leaves by longjmp to load_guarded, with nothing held but the two
 *     arenas, which the caller of it releases. So files are read before it is entered. */
#include "config/config.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "config/load.h"
#include "config/whole_file.h"

long cfg_fail_after_for_tests = -1;

struct config {
    _Atomic unsigned references;
    struct cfg_arena arena;
    const struct cfg_schema *schema; /* of the root */
    void *root;
    uint64_t text_hash;
    struct config *leased[2]; /* of config_beside */
};

struct text {
    char *bytes; /* malloc'd, or NULL */
    size_t len;
};

struct load {
    struct cfg_loader loader;
    struct cfg_arena scratch;
    jmp_buf on_failure;
    struct span file_name;
    struct span file; /* ptr NULL: none */
    struct span yaml; /* ptr NULL: none */
    struct span descriptors_name;
    struct span descriptors; /* ptr NULL: none */
    const struct cfg_schema *schema;
    struct config *config;
    struct config **partial; /* NULL: it is not wanted */
    bool is_object;
};

/* False with a problem reported. */
static NOINLINE bool read_file(const char *path, struct cfg_problems *problems, struct text *out) {
    const struct cfg_mark mark = {.file = span_of(path)};
    int rc = whole_file_read(path, CFG_TEXT_MAX_BYTES, &out->bytes, &out->len);
    if (rc == -EFBIG)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &mark, "is larger than 64 MiB");
    else if (rc != 0)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &mark, "cannot be read: %s",
                        whole_file_problem(rc));
    return rc == 0;
}

/* NULL with a problem reported. */
static struct cfg_tree *parse_text(struct load *load, struct span name, struct span text) {
    struct cfg_parse_error error = {0};
    struct cfg_tree *tree = NULL;
    struct span start = span_trim(text);
    bool is_json = span_ends_with(name, SPAN_LIT(".json"));
    /* JSON elsewhere is tried as JSON first, since libyaml refuses some of it; when it fails it may
     * still be YAML's flow style, whose message is then the one to give. Its scalars are YAML's in
     * any case, as on Envoy, where the name of the file alone decides. */
    if (is_json || (start.len && *start.ptr == '{'))
        tree = cfg_json_parse(&load->scratch, name, text,
                              is_json ? CFG_JSON_SCALARS : CFG_YAML_SCALARS, &error);
    if (!tree && !is_json)
        tree = cfg_yaml_parse(&load->scratch, name, text, &error);
    if (!tree) {
        struct cfg_mark mark = {.file = name, .line = error.line};
        cfg_problem_add(load->loader.problems, CFG_PROBLEM_INVALID, &mark, "%.*s",
                        (int)error.text.len, error.text.ptr);
    }
    return tree;
}

static void load_sources(struct load *load) {
    struct cfg_loader *loader = &load->loader;
    if (load->descriptors.ptr) {
        loader->descriptors =
            cfg_descriptors_load(loader, load->descriptors_name, load->descriptors);
        if (!loader->descriptors)
            return;
    }
    struct cfg_tree *tree = NULL, *over = NULL;
    bool failed = false;
    if (load->file.ptr) {
        /* Marks refer to the name as long as the config lives. */
        tree = parse_text(load, cfg_copy(loader->arena, load->file_name), load->file);
        failed = !tree;
    }
    if (load->yaml.ptr) {
        over = parse_text(load, SPAN_LIT("(inline)"), load->yaml);
        failed = failed || !over;
    }
    if (failed)
        return;
    if (!tree)
        tree = over;
    else if (over)
        tree = cfg_merge(loader, load->schema, tree, over);
    load->config->schema = load->schema;
    load->config->root = cfg_alloc(loader->arena, load->schema->size);
    load->is_object = tree->kind == NODE_MAP;
    if (tree->kind == NODE_NULL) /* as on Envoy: more likely cut short than meant */
        cfg_report(loader, CFG_PROBLEM_INVALID, tree, NULL, "is empty; write {} to mean that");
    else
        cfg_decode_message(loader, load->schema, tree, NULL, false, load->config->root);
}

/* C2. False when memory was short. */
static bool load_guarded(struct load *load) {
    if (setjmp(load->on_failure))
        return false;
    load_sources(load);
    return true;
}

static int load_texts(struct load *load, bool allow_unknown, struct config **out,
                      struct cfg_problems *problems) {
    if (!load->file.ptr && !load->yaml.ptr) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, NULL,
                        "no configuration: give -c FILE or --config-yaml TEXT");
        return -EINVAL;
    }
    struct config *config = calloc(1, sizeof(*config));
    if (!config) {
        problems->lost = true;
        return -ENOMEM;
    }
    atomic_init(&config->references, 1);
    config->text_hash = span_hash(span_hash(SPAN_HASH, load->file), load->yaml);
    load->config = config;
    cfg_arena_init(&config->arena, &load->on_failure);
    cfg_arena_init(&load->scratch, &load->on_failure);
    config->arena.fail_after = load->scratch.fail_after = cfg_fail_after_for_tests;
    load->loader = (struct cfg_loader){.arena = &config->arena,
                                       .scratch = &load->scratch,
                                       .problems = problems,
                                       .allow_unknown = allow_unknown};
    bool had_memory = load_guarded(load);
    cfg_arena_fini(&load->scratch);
    config->arena.on_failure = NULL;
    if (!had_memory)
        problems->lost = true;
    if (cfg_problems_refuse(problems)) {
        if (load->partial && had_memory && load->is_object)
            *load->partial = config;
        else
            config_unref(config);
        return had_memory ? -EINVAL : -ENOMEM;
    }
    *out = config;
    return 0;
}

int config_load_as(const struct cfg_schema *schema, const struct config_source *source,
                   struct config **out, struct config **partial, struct cfg_problems *problems) {
    struct load load = {.schema = schema, .partial = partial};
    struct text file = {0}, descriptors = {0};
    int result = -EINVAL;
    bool ok = true;
    if (source->path) {
        load.file_name = span_of(source->path);
        ok = read_file(source->path, problems, &file);
        load.file = span_make(file.bytes, file.len);
    }
    if (source->descriptor_set) {
        load.descriptors_name = span_of(source->descriptor_set);
        ok = read_file(source->descriptor_set, problems, &descriptors) && ok;
        load.descriptors = span_make(descriptors.bytes, descriptors.len);
    }
    load.yaml = span_of(source->yaml);
    if (ok)
        result = load_texts(&load, source->allow_unknown, out, problems);
    free(file.bytes);
    free(descriptors.bytes);
    return result;
}

int config_load(const struct config_source *source, struct config **out,
                struct cfg_problems *problems) {
    return config_load_as(&cfg_schema_bootstrap, source, out, NULL, problems);
}

int config_load_text(struct span name, struct span text, struct span descriptor_set,
                     struct config **out, struct cfg_problems *problems) {
    return config_load_text_as(&cfg_schema_bootstrap, name, text, descriptor_set, out, NULL,
                               problems);
}

int config_load_text_as(const struct cfg_schema *schema, struct span name, struct span text,
                        struct span descriptor_set, struct config **out, struct config **partial,
                        struct cfg_problems *problems) {
    struct load load = {.schema = schema,
                        .partial = partial,
                        .file_name = name,
                        .file = text,
                        .descriptors_name = SPAN_LIT("(descriptor set)"),
                        .descriptors = descriptor_set};
    return load_texts(&load, false, out, problems);
}

struct config *config_ref(struct config *config) {
    unsigned before = atomic_fetch_add_explicit(&config->references, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return config;
}

void config_unref(struct config *config) {
    if (!config)
        return;
    /* acq_rel: what other holders did with the config happens before it is freed here. */
    unsigned before = atomic_fetch_sub_explicit(&config->references, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1)
        return;
    for (size_t i = 0; i < COUNT_OF(config->leased); i++)
        config_unref(config->leased[i]);
    cfg_arena_fini(&config->arena);
    free(config);
}

struct config *config_beside(struct config *bootstrap, struct config *from) {
    if (bootstrap == from)
        return config_ref(bootstrap);
    struct config *config = calloc(1, sizeof(*config));
    if (!config)
        return NULL;
    atomic_init(&config->references, 1);
    config->schema = bootstrap->schema;
    config->root = bootstrap->root;
    config->text_hash = bootstrap->text_hash;
    config->leased[0] = config_ref(bootstrap);
    config->leased[1] = config_ref(from);
    return config;
}

const struct cfg_bootstrap *config_bootstrap(const struct config *config) {
    ASSERT(config->schema == &cfg_schema_bootstrap);
    return config->root;
}

const void *config_root(const struct config *config) {
    return config->root;
}

uint64_t config_text_hash(const struct config *config) {
    return config->text_hash;
}
