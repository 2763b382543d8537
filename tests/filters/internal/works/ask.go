package works

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
)

// AskFor is Ask for what gives an object, which is put into *result.
func AskFor[I, R any](where string, on I, method string, result *R, arguments ...interface{}) {
	var in []reflect.Value
	for _, argument := range arguments {
		in = append(in, reflect.ValueOf(argument))
	}
	given := reflect.ValueOf(&on).Elem().MethodByName(method).Call(in)[0]
	*result = given.Interface().(R)
	(&Answer{key: key(where, reflect.TypeFor[I](), method)}).Is(show(given))
}

// headers asks a map with x-one: 1, x-two: a and b, x-gone: 1.
func headers[I api.HeaderMap](where string, h I) {
	Ask(where, h, "Get", "x-one")
	Ask(where, h, "GetRaw", "x-one")
	Ask(where, h, "Values", "x-two")
	for _, method := range []string{"Range", "RangeWithCopy"} {
		var seen []string
		each := func(key, value string) bool {
			if key == "x-one" || key == "x-two" { // the proxy adds others
				seen = append(seen, key+": "+value)
			}
			return true
		}
		answer := AskQuietly(where, h, method, each)
		sort.Strings(seen)
		answer.Is("%s", strings.Join(seen, ", "))
	}
	AskQuietly(where, h, "GetAllHeaders").Is("%q", h.GetAllHeaders()["x-two"])
	Ask(where, h, "Set", "x-set", "new")
	Ask(where, h, "Add", "x-two", "c")
	Ask(where, h, "Del", "x-gone")
}

// buffer asks the body that is "abc" each time. What is told is what the proxy then has. At last it is the filter's.
func buffer(b api.BufferInstance) {
	changes := []struct {
		method   string
		argument interface{}
	}{
		{"Set", []byte("new")}, {"SetString", "new"},
		{"Append", []byte("de")}, {"AppendString", "de"},
		{"Prepend", []byte("de")}, {"PrependString", "de"},
		{"Write", []byte("de")}, {"WriteString", "de"},
		{"WriteByte", 'd'}, {"WriteUint16", 0x6465}, {"WriteUint32", 0x64656667}, {"WriteUint64", 0x6465666768696a6b},
		{"Drain", 1}, {"Reset", nil},
	}
	for _, change := range changes {
		_ = b.SetString("abc")
		var arguments []interface{}
		if change.argument != nil {
			arguments = append(arguments, change.argument)
		}
		answer := AskQuietly("", b, change.method, arguments...)
		if strings.HasPrefix(answer.text, "panic") {
			answer.Is(answer.text)
		} else {
			answer.Is("\"abc\" becomes %q", b.String())
		}
	}
	_ = b.SetString("abc")
	Ask("", b, "Len")
	Ask("", b, "String")
	Ask("", b, "Bytes")
	_ = b.SetString("of the filter")
}

// request asks what is asked of the request as a whole.
func (f *filter) request() {
	var info api.StreamInfo
	AskFor("", f.callbacks, "StreamInfo", &info)
	Ask("", f.callbacks, "GetProperty", "request.method")
	Ask("", f.callbacks, "LogLevel")
	Ask("", f.callbacks, "Log", api.Info, "Log speaks")
	var metadata api.DynamicMetadata
	AskFor("", info, "DynamicMetadata", &metadata)
	Ask("", metadata, "Set", "works", "key", map[string]interface{}{"list": []interface{}{"x", 1.5, true}})
	AskQuietly("", metadata, "Get", "works").Is("%s", fmt.Sprint(metadata.Get("works")))
	var state api.FilterState
	AskFor("", info, "FilterState", &state)
	Ask("", state, "SetString", "works", "value", api.StateTypeMutable, api.LifeSpanRequest, api.None)
	Ask("", state, "GetString", "works")
}

func (f *filter) functions() {
	if http.EnvoyConcurrency() > 0 {
		Call(http.EnvoyConcurrency)
	}
	Call(http.PassThroughFactory, f.config, f.callbacks)
	Call(api.GetLogLevel)
	for _, log := range []func(string){api.LogTrace, api.LogDebug, api.LogInfo, api.LogWarn, api.LogError,
		api.LogCritical} {
		Call(log, "speaks")
	}
	for _, log := range []func(string, ...interface{}){api.LogTracef, api.LogDebugf, api.LogInfof, api.LogWarnf,
		api.LogErrorf, api.LogCriticalf} {
		Call(log, "speaks %s", "too")
	}
}

func (f *filter) metrics() {
	Ask("", f.config.counter, "Record", 40)
	Ask("", f.config.counter, "Increment", 2)
	Ask("", f.config.counter, "Get")
	Ask("", f.config.gauge, "Record", 40)
	Ask("", f.config.gauge, "Increment", -2)
	Ask("", f.config.gauge, "Get")
}
