// Compares the proxy's schema tables with the descriptors of Envoy's API: names, numbers, types,
// enums. Needs the tables as `sluice --print-config-schema` prints them:
//
//	sluice --print-config-schema >schema.json
//	SLUICE_SCHEMA_JSON=schema.json go test ./...
package schema

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	_ "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/injected_resource/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

type field struct {
	Number protoreflect.FieldNumber
	Name   protoreflect.Name
	Status string
	Shape  string
	Key    string
	Type   string
	Oneof  string
}

type message struct {
	Name    protoreflect.FullName
	Fields  []field
	Missing []field
}

type enum struct {
	Name   protoreflect.FullName
	Values []struct {
		Number protoreflect.EnumNumber
		Name   protoreflect.Name
		Status string
	}
}

type schema struct {
	Messages []message
	Enums    []enum
}

func readSchema(t *testing.T) schema {
	t.Helper()
	path := os.Getenv("SLUICE_SCHEMA_JSON")
	if path == "" {
		t.Skip("SLUICE_SCHEMA_JSON names no file; make one with sluice --print-config-schema")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	// What Envoy has not: ours to define.
	s.Messages = slices.DeleteFunc(s.Messages, func(m message) bool {
		return strings.HasPrefix(string(m.Name), "sluice.")
	})
	s.Enums = slices.DeleteFunc(s.Enums, func(e enum) bool {
		return strings.HasPrefix(string(e.Name), "sluice.")
	})
	if len(s.Messages) < 40 || len(s.Enums) < 10 {
		t.Fatalf("only %d messages and %d enums: not all of the tables", len(s.Messages), len(s.Enums))
	}
	return s
}

// The APIs of Go filters are part of Envoy's contrib, whose Go module has no release of the time of Envoy 1.33. So testdata
// has the descriptors of their files: golang_http.pb as go-control-plane had it then (tag envoy/v1.32.4,
// contrib/envoy/extensions/filters/http/golang/v3alpha/golang.pb.go), the others of
// its contrib module, whose fields of these are those of 1.33. discovery.pb is of service/discovery/v3/discovery.pb.go: the
// package around it would bring all of gRPC.
func TestMain(m *testing.M) {
	for _, name := range []string{"golang_http.pb", "golang_network.pb", "golang_cluster_specifier.pb", "discovery.pb"} {
		bytes, err := os.ReadFile("testdata/" + name)
		if err != nil {
			panic(err)
		}
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(bytes, &file); err != nil {
			panic(err)
		}
		descriptor, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
		if err != nil {
			panic(err)
		}
		if err := protoregistry.GlobalFiles.RegisterFile(descriptor); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return string(f.Message().FullName())
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	}
	return f.Kind().String()
}

// What the table should say of a field.
func describe(f protoreflect.FieldDescriptor) field {
	d := field{Number: f.Number(), Name: f.Name(), Shape: "singular"}
	switch {
	case f.IsMap():
		d.Shape, d.Key, d.Type = "map", typeName(f.MapKey()), typeName(f.MapValue())
	case f.IsList():
		d.Shape, d.Type = "repeated", typeName(f)
	default:
		d.Type = typeName(f)
	}
	if f.ContainingOneof() != nil {
		d.Oneof = string(f.ContainingOneof().Name())
	}
	return d
}

// Fields that are younger than the release of Envoy's API that go.mod names: as Envoy 1.40 has them.
var younger = map[protoreflect.FullName][]field{
	"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": {
		{Number: 3, Name: "enable_ja4_fingerprinting", Shape: "singular", Type: "google.protobuf.BoolValue"},
		{Number: 4, Name: "close_connection_on_client_hello_parsing_errors", Shape: "singular", Type: "bool"},
		{Number: 5, Name: "max_client_hello_size", Shape: "singular", Type: "google.protobuf.UInt32Value"},
	},
	"envoy.config.core.v3.ProxyProtocolConfig": {
		{Number: 3, Name: "added_tlvs", Shape: "repeated", Type: "envoy.config.core.v3.TlvEntry"},
	},
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": {
		{Number: 19, Name: "proxy_protocol_tlvs"},
		{Number: 20, Name: "max_downstream_connection_duration_jitter_percentage"},
		{Number: 21, Name: "upstream_connect_mode"},
		{Number: 22, Name: "max_early_data_bytes"},
		{Number: 23, Name: "proxy_protocol_tlv_merge_policy"},
		{Number: 24, Name: "check_drain_close"},
	},
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions": {
		{Number: 3, Name: "flush_access_log_on_start"},
	},
	"envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol":              {{Number: 6, Name: "tlv_location"}},
	"envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair": {{Number: 3, Name: "value_string_encoding"}},
}

// Our own fields in Envoy's messages have numbers from here on (CFG_OWN_FIELD).
const ownFields = 50000

// What Envoy says of a field.
func wanted(m protoreflect.MessageDescriptor, number protoreflect.FieldNumber) (field, bool) {
	if f := m.Fields().ByNumber(number); f != nil {
		return describe(f), true
	}
	for _, f := range younger[m.FullName()] {
		if f.Number == number {
			return f, true
		}
	}
	return field{}, false
}

// Messages of our own, which Envoy does not have, and one that is younger than go.mod's.
func isOurs(name protoreflect.FullName) bool {
	return strings.HasPrefix(string(name), "sluice.") || name == "envoy.config.core.v3.TlvEntry"
}

func find[D protoreflect.Descriptor](t *testing.T, name protoreflect.FullName) (D, bool) {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		var none D
		return none, false
	}
	typed, ok := d.(D)
	if !ok {
		t.Errorf("%s is something else: %T", name, d)
	}
	return typed, ok
}

func TestFieldsAreThoseOfEnvoy(t *testing.T) {
	for _, m := range readSchema(t).Messages {
		if isOurs(m.Name) {
			continue
		}
		descriptor, ok := find[protoreflect.MessageDescriptor](t, m.Name)
		if !ok {
			continue
		}
		for _, f := range m.Fields {
			if f.Number >= ownFields {
				continue
			}
			want, ok := wanted(descriptor, f.Number)
			if !ok {
				t.Errorf("%s.%s: no field %d", m.Name, f.Name, f.Number)
				continue
			}
			f.Status = ""
			if f != want {
				t.Errorf("%s: the table says %+v, Envoy %+v", m.Name, f, want)
			}
		}
		for _, f := range m.Missing {
			want, ok := wanted(descriptor, f.Number)
			if !ok || want.Name != f.Name {
				t.Errorf("%s: no field %d %s", m.Name, f.Number, f.Name)
			}
		}
	}
}

// A field that no list has would be called unknown, where it should be called not supported yet.
func TestNoFieldOfEnvoyIsForgotten(t *testing.T) {
	known := map[protoreflect.FullName]map[protoreflect.FieldNumber]bool{}
	for _, m := range readSchema(t).Messages {
		if isOurs(m.Name) {
			continue
		}
		if known[m.Name] == nil {
			known[m.Name] = map[protoreflect.FieldNumber]bool{}
		}
		for _, f := range append(m.Fields, m.Missing...) {
			known[m.Name][f.Number] = true
		}
	}
	var forgotten []string
	for name, numbers := range known {
		descriptor, ok := find[protoreflect.MessageDescriptor](t, name)
		if !ok {
			continue
		}
		for i := 0; i < descriptor.Fields().Len(); i++ {
			if f := descriptor.Fields().Get(i); !numbers[f.Number()] {
				forgotten = append(forgotten, fmt.Sprintf("%s: {%d, %q}", name, f.Number(), f.Name()))
			}
		}
	}
	sort.Strings(forgotten)
	for _, f := range forgotten {
		t.Error(f)
	}
}

func TestEnumsAreThoseOfEnvoy(t *testing.T) {
	for _, e := range readSchema(t).Enums {
		descriptor, ok := find[protoreflect.EnumDescriptor](t, e.Name)
		if !ok {
			continue
		}
		if len(e.Values) != descriptor.Values().Len() {
			t.Errorf("%s: the table has %d values, Envoy %d", e.Name, len(e.Values), descriptor.Values().Len())
		}
		for _, v := range e.Values {
			want := descriptor.Values().ByNumber(v.Number)
			if want == nil || want.Name() != v.Name {
				t.Errorf("%s: no value %d %s", e.Name, v.Number, v.Name)
			}
		}
	}
}
