/* any: google.protobuf.Any from JSON: {"@type": "type.googleapis.com/NAME", fields...}.
 *
 * Two kinds of places hold an Any:
 *
 *   extension slots   http_filters, network filters, access loggers ...: the type names the
 *                     extension, so it must be one of ours (schema.h: cfg_any_type). A TypedStruct
 *                     that wraps such a type is unwrapped, as on Envoy.
 *   payloads          a Go plugin's configuration: handed on as bytes, so any type will do whose
 *                     wire format is known: the well-known types, TypedStruct, our own tables, and
 *                     what --descriptor-set describes. */
#include "config/load.h"
#include "config/scalar.h"

enum url_form { URL_WITH_HOST, URL_OR_NAME };

static bool is_typed_struct(struct span name) {
    return span_eq(name, SPAN_LIT("xds.type.v3.TypedStruct")) ||
           span_eq(name, SPAN_LIT("udpa.type.v1.TypedStruct"));
}

/* The full name of a type in its URL: what follows the last '/'. False with a problem reported. */
static bool type_name(struct cfg_loader *loader, const struct cfg_tree *node,
                      const struct cfg_path *path, enum url_form form, struct span *name) {
    if (node->kind != NODE_STRING && node->kind != NODE_PLAIN) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "expected a string, found %s",
                   cfg_tree_kind_name(node));
        return false;
    }
    size_t start = node->text.len;
    while (start > 0 && node->text.ptr[start - 1] != '/')
        start--;
    if ((start == 0 && form == URL_WITH_HOST) || start == node->text.len) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "\"%.*s\" is not a type URL, such as \"type.googleapis.com/NAME\"",
                   (int)node->text.len, node->text.ptr);
        return false;
    }
    *name = span_from(node->text, start);
    return true;
}

static void finish(struct cfg_loader *loader, struct span type_url, const struct cfg_schema *schema,
                   void *message, struct cfg_any *out) {
    struct cfg_buf value = {.arena = loader->scratch}, serialised = {.arena = loader->scratch};
    cfg_wire_message(&value, schema, message);
    out->type_url = cfg_copy(loader->arena, type_url);
    out->value = cfg_buf_view(&value);
    cfg_wire_any(&serialised, out);
    out->serialised = cfg_copy(loader->arena, cfg_buf_view(&serialised));
    /* It is the end of the whole: both are kept once, and without what the buffers had left. */
    out->value = span_from(out->serialised, out->serialised.len - value.len);
    out->shown_schema = schema;
    out->shown = message;
}

/* ---- extension slots ---- */

static const char *slot_name(enum cfg_any_slot slot) {
    switch (slot) {
    case CFG_SLOT_NETWORK_FILTER:
        return "network filter";
    case CFG_SLOT_HTTP_FILTER:
        return "HTTP filter";
    case CFG_SLOT_PER_ROUTE:
        return "per-route filter config";
    case CFG_SLOT_ACCESS_LOG:
        return "access logger";
    case CFG_SLOT_UPSTREAM_PROTOCOL:
        return "upstream protocol config";
    case CFG_SLOT_RESOURCE_MONITOR:
        return "resource monitor";
    case CFG_SLOT_LISTENER_FILTER:
        return "listener filter";
    case CFG_SLOT_TRANSPORT_SOCKET:
        return "transport socket";
    case CFG_SLOT_CLUSTER_SPECIFIER:
        return "cluster specifier plugin";
    case CFG_SLOT_RESOURCE:
        return "resource";
    case CFG_SLOT_PAYLOAD:
        break;
    }
    return "config";
}

/* http_filters[].is_optional: a filter that may be left out where it is not built in. */
static bool is_optional(const struct cfg_path *path) {
    if (!path || !path->within)
        return false;
    const struct cfg_tree *flag = cfg_tree_get(path->within, SPAN_LIT("is_optional"));
    if (!flag)
        flag = cfg_tree_get(path->within, SPAN_LIT("isOptional"));
    return flag && flag->kind == NODE_PLAIN && cfg_scalar_of(flag).boolean;
}

static void report_extension(struct cfg_loader *loader, const struct cfg_field *field,
                             const struct cfg_tree *type_node, const struct cfg_path *type_path,
                             const struct cfg_path *path, struct span name) {
    if (field->slot == CFG_SLOT_HTTP_FILTER && is_optional(path)) {
        cfg_report(loader, CFG_PROBLEM_WARNING, type_node, type_path,
                   "the HTTP filter %.*s is not built in; left out, since it is_optional",
                   (int)name.len, name.ptr);
        return;
    }
    struct cfg_buf known = {.arena = loader->scratch};
    const struct cfg_any_type *type;
    for (size_t i = 0; (type = cfg_any_type_at(i)); i++) {
        if (type->slot == field->slot)
            cfg_buf_printf(&known, "%s%s", known.len ? ", " : "", type->schema->name);
    }
    cfg_buf_byte(&known, '\0');
    bool is_envoys = span_starts_with(name, SPAN_LIT("envoy."));
    cfg_report(loader, is_envoys ? CFG_PROBLEM_UNSUPPORTED : CFG_PROBLEM_UNKNOWN, type_node,
               type_path, "the %s %.*s is not supported%s; supported are: %s",
               slot_name(field->slot), (int)name.len, name.ptr,
               is_envoys ? " yet" : " here, nor known as an extension of Envoy", known.ptr);
}

static void decode_extension(struct cfg_loader *loader, const struct cfg_field *field,
                             const struct cfg_tree *node, const struct cfg_tree *type_node,
                             const struct cfg_path *path, struct span name, struct cfg_any *out) {
    const struct cfg_path type_path = {.up = path, .name = "@type"};
    const struct cfg_tree *fields = node;
    const struct cfg_path value_path = {.up = path, .name = "value"};
    const struct cfg_path *at = path;
    if (is_typed_struct(name)) {
        const struct cfg_tree *inner = cfg_tree_get(node, SPAN_LIT("type_url"));
        if (!inner)
            inner = cfg_tree_get(node, SPAN_LIT("typeUrl"));
        if (!inner) {
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                       "a TypedStruct here needs a type_url that says which %s it is for",
                       slot_name(field->slot));
            return;
        }
        const struct cfg_path url_path = {.up = path, .name = "type_url"};
        if (!type_name(loader, inner, &url_path, URL_OR_NAME, &name))
            return;
        type_node = inner;
        fields = cfg_tree_get(node, SPAN_LIT("value"));
        at = &value_path;
    }
    const struct cfg_any_type *type = cfg_any_type_find(name);
    if (!type || type->slot != field->slot) {
        report_extension(loader, field, type_node, &type_path, path, name);
        out->type_url = cfg_copy(loader->arena, type_node->text);
        out->value = span_of("");
        return;
    }
    void *message = cfg_alloc(loader->arena, type->schema->size);
    struct cfg_tree none = {.kind = NODE_MAP, .line = node->line, .file = node->file};
    if (!fields || fields->kind == NODE_NULL)
        fields = &none;
    cfg_decode_message(loader, type->schema, fields, at, fields == node, message);
    out->schema = type->schema;
    out->message = message;
    finish(loader, type_node->text, type->schema, message, out);
}

/* ---- payloads ---- */

static void decode_payload(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_tree *type_node, const struct cfg_path *path,
                           struct span name, struct cfg_any *out) {
    /* Descriptors come before our tables, which may lack fields of an Envoy message. */
    const struct cfg_any_type *ours = NULL;
    const struct cfg_schema *schema = cfg_well_known_find(name);
    if (!schema && loader->descriptors)
        schema = cfg_descriptors_find(loader->descriptors, name);
    if (!schema) {
        ours = cfg_any_type_find(name);
        schema = ours ? ours->schema : NULL;
    }
    if (!schema) {
        const struct cfg_path type_path = {.up = path, .name = "@type"};
        cfg_report(
            loader, CFG_PROBLEM_INVALID, type_node, &type_path,
            loader->descriptors
                ? "the type %.*s is not in the descriptor set given by --descriptor-set"
                : "the wire format of %.*s is not known: give --descriptor-set FILE, made by "
                  "protoc --include_imports --descriptor_set_out=FILE YOUR.proto",
            (int)name.len, name.ptr);
        return;
    }
    void *message = cfg_alloc(loader->arena, schema->size);
    if (!schema->is_well_known) {
        cfg_decode_message(loader, schema, node, path, true, message);
    } else {
        /* {"@type": ..., "value": what the JSON of the well-known type is} */
        const struct cfg_path value_path = {.up = path, .name = "value"};
        const struct cfg_tree *value = cfg_tree_get(node, SPAN_LIT("value"));
        for (size_t i = 0; i < node->count; i++) {
            struct span key = node->entries[i].key;
            if (!span_eq(key, SPAN_LIT("@type")) && !span_eq(key, SPAN_LIT("value"))) {
                cfg_report_line(loader, CFG_PROBLEM_INVALID, node, node->entries[i].line, path,
                                "the content of a %s stands in \"value\", not in \"%.*s\"",
                                schema->name, (int)key.len, key.ptr);
            }
        }
        if (value && (value->kind != NODE_NULL || schema->fields[0].type == CFG_VALUE))
            cfg_decode_message(loader, schema, value, &value_path, false, message);
    }
    if (ours) {
        out->schema = schema;
        out->message = message;
    }
    finish(loader, type_node->text, schema, message, out);
}

void cfg_decode_any(struct cfg_loader *loader, const struct cfg_field *field,
                    const struct cfg_tree *node, const struct cfg_path *path, struct cfg_any *out) {
    out->mark = cfg_mark_at(loader, node, path);
    if (node->kind != NODE_MAP) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "expected an object with \"@type\", found %s", cfg_tree_kind_name(node));
        return;
    }
    const struct cfg_tree *type_node = cfg_tree_get(node, SPAN_LIT("@type"));
    if (!type_node) {
        if (node->count == 0 && field->slot == CFG_SLOT_PAYLOAD) {
            out->type_url = out->value = out->serialised = span_of("");
            return;
        }
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "\"@type\" is required, such as \"type.googleapis.com/%s\"",
                   field->slot == CFG_SLOT_PAYLOAD ? "xds.type.v3.TypedStruct" : "envoy...");
        return;
    }
    const struct cfg_path type_path = {.up = path, .name = "@type"};
    struct span name;
    if (!type_name(loader, type_node, &type_path, URL_WITH_HOST, &name))
        return;
    if (field->slot == CFG_SLOT_PAYLOAD)
        decode_payload(loader, node, type_node, path, name, out);
    else
        decode_extension(loader, field, node, type_node, path, name, out);
}
