package works

import (
	"encoding/json"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Register adds the plugin "works". The last part of a request's path says which of the ways below it goes.
func Register() {
	Call(http.RegisterHttpFilterFactoryAndConfigParser, "works", newFilter, parser{})
}

// config is what a filter's configuration, a TypedStruct with `prefix`, defined.
type config struct {
	counter api.CounterMetric
	gauge   api.GaugeMetric
}

type parser struct{}

func (parser) Parse(any *anypb.Any, callbacks api.ConfigCallbackHandler) (interface{}, error) {
	Told[api.StreamFilterConfigParser]("callbacks: %t", callbacks != nil)
	if callbacks == nil { // a route's
		return &config{}, nil
	}
	var value xds.TypedStruct
	if err := any.UnmarshalTo(&value); err != nil {
		return nil, err
	}
	prefix, _ := value.GetValue().AsMap()["prefix"].(string)
	conf := &config{}
	AskFor("", callbacks, "DefineCounterMetric", &conf.counter, prefix+".counter")
	AskFor("", callbacks, "DefineGaugeMetric", &conf.gauge, prefix+".gauge")
	return conf, nil
}

func (parser) Merge(parent, _ interface{}) interface{} {
	Told[api.StreamFilterConfigParser]("called")
	return parent
}

type filter struct {
	callbacks api.FilterCallbackHandler
	decode    api.DecoderFilterCallbacks
	encode    api.EncoderFilterCallbacks
	config    *config
	way       string
}

func newFilter(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	Did[api.StreamFilterFactory]("", "called")
	f := &filter{callbacks: callbacks, config: c.(*config)}
	AskFor("", callbacks, "DecoderFilterCallbacks", &f.decode)
	AskFor("", callbacks, "EncoderFilterCallbacks", &f.encode)
	return f
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, end bool) api.StatusType {
	path, _, _ := strings.Cut(header.Path(), "?")
	f.way = path[strings.LastIndexByte(path, '/')+1:]
	switch f.way {
	case "answers":
		text, _ := json.Marshal(Answers())
		f.decode.SendLocalReply(200, string(text), nil, 0, "")
		return api.LocalReply
	case "all":
		Told[api.StreamFilter]("end: %t", end)
		headers("", header)
		Ask("", header, "Scheme")
		Ask("", header, "Method")
		Ask("", header, "Host")
		Ask("", header, "Path")
		Ask("", header, "SetMethod", "PUT")
		Ask("", header, "SetHost", "changed.test")
		Ask("", header, "SetPath", "/changed?"+strings.SplitN(header.Path(), "?", 2)[1])
		f.request()
		f.functions()
		f.metrics()
		return api.StopAndBuffer
	case "clear":
		header.Set("x-route", "other")
		Ask("", f.callbacks, "ClearRouteCache")
	case "refresh":
		header.Set("x-route", "other")
		Ask("", f.callbacks, "RefreshRouteCache")
	case "continue":
		go func() {
			defer f.decode.RecoverPanic()
			Ask("", f.decode, "Continue", api.Continue)
		}()
		return api.Running
	case "reply":
		Ask("", f.decode, "SendLocalReply", 403, "no", map[string][]string{"x-reply": {"yes"}}, 0, "because")
		return api.LocalReply
	case "panic":
		go func() {
			defer f.decode.RecoverPanic() // recovers only where it is what was deferred
			Did[api.DecoderFilterCallbacks]("RecoverPanic", "")
			panic("on purpose")
		}()
		return api.Running
	case "add":
		Ask("", f.decode, "AddData", []byte("added"), true)
	}
	return api.Continue
}

func (f *filter) DecodeData(body api.BufferInstance, end bool) api.StatusType {
	if f.way == "all" {
		Told[api.StreamFilter]("bytes: %d, end: %t", body.Len(), end)
		buffer(body)
	}
	return api.Continue
}

func (f *filter) DecodeTrailers(trailer api.RequestTrailerMap) api.StatusType {
	if f.way == "all" {
		Told[api.StreamFilter]("called")
		headers("", trailer)
	}
	return api.Continue
}

func (f *filter) EncodeHeaders(header api.ResponseHeaderMap, end bool) api.StatusType {
	switch f.way {
	case "all":
		Told[api.StreamFilter]("end: %t", end)
		headers("", header)
		Ask("", header, "Status")
		return api.StopAndBuffer
	case "continue":
		go func() {
			defer f.encode.RecoverPanic()
			Ask("", f.encode, "Continue", api.Continue)
		}()
		return api.Running
	case "reply-late":
		Ask("", f.encode, "SendLocalReply", 403, "no", map[string][]string{"x-reply": {"yes"}}, 0, "because")
		return api.LocalReply
	case "panic-late":
		go func() {
			defer f.encode.RecoverPanic()
			Did[api.EncoderFilterCallbacks]("RecoverPanic", "")
			panic("on purpose")
		}()
		return api.Running
	case "add-late":
		Ask("", f.encode, "AddData", []byte("added"), true)
	}
	return api.Continue
}

func (f *filter) EncodeData(body api.BufferInstance, end bool) api.StatusType {
	if f.way == "all" {
		Told[api.StreamFilter]("bytes: %d, end: %t", body.Len(), end)
		buffer(body)
	}
	return api.Continue
}

func (f *filter) EncodeTrailers(trailer api.ResponseTrailerMap) api.StatusType {
	if f.way == "all" {
		Told[api.StreamFilter]("called")
		headers("", trailer)
	}
	return api.Continue
}

// The log phase knows all there is to know of a request.
func (f *filter) logged() {
	if f.way != "all" {
		return
	}
	info := f.callbacks.StreamInfo()
	for _, method := range []string{"GetRouteName", "FilterChainName", "Protocol", "ResponseCode",
		"ResponseCodeDetails", "AttemptCount", "DownstreamLocalAddress", "DownstreamRemoteAddress",
		"UpstreamLocalAddress", "UpstreamRemoteAddress", "UpstreamClusterName", "VirtualClusterName"} {
		Ask("", info, method)
	}
	if info.WorkerID() < http.EnvoyConcurrency() {
		AskQuietly("", info, "WorkerID").Is("less than EnvoyConcurrency()")
	}
}

func (f *filter) OnDestroy(reason api.DestroyReason) {
	if f.way == "all" {
		Told[api.StreamFilter]("reason: %d", reason)
	}
}

func (f *filter) OnStreamComplete() {
	if f.way == "all" {
		Told[api.StreamFilter]("called")
	}
}
