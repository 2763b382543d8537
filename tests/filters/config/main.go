// Command config is a library of test filters about plugin_config: how it is
// handed over, refused and merged. It has several plugins, as real libraries do.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strconv"
	"strings"

	udpa "github.com/cncf/xds/go/udpa/type/v1"
	xds "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/wrapperspb" // so that protojson knows them

	"sluice.dev/tests/filters/internal/probe"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("merge", newMergeFilter, &mergeParser{})
	http.RegisterHttpFilterFactoryAndConfigParser("any", newAnyFilter, http.NullParser)
	http.RegisterHttpFilterFactoryAndConfigParser("metric", newMetricFilter, &metricParser{})
	probe.RegisterReport("config")
}

func main() {}

// --- plugin "merge" ---

// levels is the configuration that one request runs with: the name of each level
// that it was merged from, filter first, and all values, inner levels winning.
type levels struct {
	names  []string
	values map[string]string
}

func newLevels() *levels {
	l := &levels{values: map[string]string{}}
	probe.Count("configs", 1)
	runtime.SetFinalizer(l, func(*levels) { probe.Count("configs_collected", 1) })
	return l
}

type mergeParser struct{}

// Parse wants a TypedStruct with a string "level". "error" in it makes the parser
// return that as an error.
func (*mergeParser) Parse(any *anypb.Any, callbacks api.ConfigCallbackHandler) (interface{}, error) {
	probe.Count("parse", 1)
	if callbacks == nil {
		probe.Count("parse_route", 1)
	}
	fields, err := structOf(any)
	if err != nil {
		return nil, err
	}
	if text, ok := fields["error"].(string); ok {
		return nil, errors.New(text)
	}
	level, ok := fields["level"].(string)
	if !ok {
		return nil, errors.New("level is missing")
	}
	conf := newLevels()
	conf.names = []string{level}
	for key, value := range fields {
		conf.values[key] = fmt.Sprint(value)
	}
	return conf, nil
}

func (*mergeParser) Merge(parent, child interface{}) interface{} {
	probe.Count("merge", 1)
	merged := newLevels()
	for _, conf := range []*levels{parent.(*levels), child.(*levels)} {
		merged.names = append(merged.names, conf.names...)
		for key, value := range conf.values {
			merged.values[key] = value
		}
	}
	return merged
}

func structOf(any *anypb.Any) (map[string]interface{}, error) {
	message, err := any.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	switch m := message.(type) {
	case *xds.TypedStruct:
		return m.GetValue().AsMap(), nil
	case *udpa.TypedStruct:
		return m.GetValue().AsMap(), nil
	case *structpb.Struct:
		return m.AsMap(), nil
	}
	return nil, fmt.Errorf("cannot read a %s", any.GetTypeUrl())
}

type mergeFilter struct {
	api.PassThroughStreamFilter
	config *levels
}

func newMergeFilter(c interface{}, _ api.FilterCallbackHandler) api.StreamFilter {
	f := &mergeFilter{config: c.(*levels)}
	probe.Watch(f)
	return f
}

// EncodeHeaders shows the configuration: x-levels in the order of the merge, and
// x-value-KEY for each value.
func (f *mergeFilter) EncodeHeaders(header api.ResponseHeaderMap, _ bool) api.StatusType {
	header.Set("x-levels", strings.Join(f.config.names, ">"))
	for key, value := range f.config.values {
		header.Set("x-value-"+key, value)
	}
	return api.Continue
}

func (f *mergeFilter) OnDestroy(api.DestroyReason) { probe.Destroyed.Add(1) }

// --- plugin "any" ---

// anyFilter shows the Any that it was configured with, as it came.
type anyFilter struct {
	api.PassThroughStreamFilter
	config *anypb.Any
}

func newAnyFilter(c interface{}, _ api.FilterCallbackHandler) api.StreamFilter {
	f := &anyFilter{config: c.(*anypb.Any)}
	probe.Watch(f)
	return f
}

func (f *anyFilter) EncodeHeaders(header api.ResponseHeaderMap, _ bool) api.StatusType {
	header.Set("x-any-type", f.config.GetTypeUrl())
	header.Set("x-any-bytes", fmt.Sprintf("%x", f.config.GetValue()))
	header.Set("x-any-json", asJSON(f.config))
	return api.Continue
}

func (f *anyFilter) OnDestroy(api.DestroyReason) { probe.Destroyed.Add(1) }

// asJSON is the message in the Any as compact JSON; protojson's own output has
// spaces at random, on purpose.
func asJSON(any *anypb.Any) string {
	message, err := any.UnmarshalNew()
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return compact(message)
}

func compact(message proto.Message) string {
	text, err := protojson.Marshal(message)
	if err != nil {
		return "unprintable: " + err.Error()
	}
	var value interface{}
	if err := json.Unmarshal(text, &value); err != nil {
		return "not JSON: " + err.Error()
	}
	text, _ = json.Marshal(value)
	return string(text)
}

// --- plugin "metric" ---

// metrics defines two counters and a gauge when it may, the first counter under one name twice.
type metrics struct {
	requests, again, destroyed api.CounterMetric
	active                     api.GaugeMetric
}

// Destroy is called where the SDK tells configurations of their end (build.py).
func (m *metrics) Destroy() {
	if m.destroyed != nil {
		m.destroyed.Increment(1)
	}
	api.LogWarn("metric: a configuration is destroyed")
}

type metricParser struct{}

func (*metricParser) Parse(_ *anypb.Any, callbacks api.ConfigCallbackHandler) (interface{}, error) {
	conf := &metrics{}
	if callbacks != nil { // nil for the config of a route
		conf.requests = callbacks.DefineCounterMetric("test_filter.requests")
		conf.again = callbacks.DefineCounterMetric("test_filter.requests")
		conf.active = callbacks.DefineGaugeMetric("test_filter.active")
		conf.destroyed = callbacks.DefineCounterMetric("test_filter.destroyed")
	}
	return conf, nil
}

func (*metricParser) Merge(parent, _ interface{}) interface{} {
	return parent
}

type metricFilter struct {
	api.PassThroughStreamFilter
	callbacks api.FilterCallbackHandler
	config    *metrics
}

func newMetricFilter(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	f := &metricFilter{config: c.(*metrics), callbacks: callbacks}
	probe.Watch(f)
	return f
}

// DecodeHeaders counts the request, and does to the metrics what the query says: the amounts
// `count`, `recount` (under its second id), `record` and `active` (a gauge is set to it). With
// `async` all that is a goroutine's, for which the request waits.
func (f *metricFilter) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	at, err := url.Parse(header.Path())
	if err != nil {
		panic(err)
	}
	query := at.Query()
	if !query.Has("async") {
		f.count(query)
		return api.Continue
	}
	probe.Goroutines.Add(1)
	go func() {
		defer probe.Goroutines.Add(-1)
		callbacks := f.callbacks.DecoderFilterCallbacks()
		defer callbacks.RecoverPanic()
		f.count(query)
		callbacks.Continue(api.Continue)
	}()
	return api.Running
}

func (f *metricFilter) count(query url.Values) {
	amount := func(name string) int64 {
		n, _ := strconv.ParseInt(query.Get(name), 10, 64)
		return n
	}
	f.config.requests.Increment(1)
	f.config.active.Increment(1)
	f.config.requests.Increment(amount("count"))
	f.config.again.Increment(amount("recount"))
	if query.Has("record") {
		f.config.requests.Record(uint64(amount("record")))
	}
	if query.Has("active") {
		f.config.active.Record(uint64(amount("active")))
	}
}

func (f *metricFilter) EncodeHeaders(header api.ResponseHeaderMap, _ bool) api.StatusType {
	header.Set("x-metric-requests", fmt.Sprint(f.config.requests.Get()))
	header.Set("x-metric-active", fmt.Sprint(f.config.active.Get()))
	return api.Continue
}

func (f *metricFilter) OnDestroy(api.DestroyReason) {
	f.config.active.Increment(-1)
	probe.Destroyed.Add(1)
}
