// Command gofilter_go has what bench/gofilter.py measures, a plugin each.
package main

import (
	"bytes"
	"strings"
	"sync/atomic"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
	"google.golang.org/protobuf/types/known/anypb"
)

type parser struct{}

func (parser) Parse(*anypb.Any, api.ConfigCallbackHandler) (interface{}, error) { return nil, nil }
func (parser) Merge(parent interface{}, _ interface{}) interface{}              { return parent }

func register(name string, make func(callbacks api.FilterCallbackHandler) api.StreamFilter) {
	factory := func(_ interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter { return make(callbacks) }
	http.RegisterHttpFilterFactoryAndConfigParser(name, factory, parser{})
}

func init() {
	register("headers", func(api.FilterCallbackHandler) api.StreamFilter { return &headers{} })
	register("read", func(api.FilterCallbackHandler) api.StreamFilter { return &read{} })
	register("rewrite", func(api.FilterCallbackHandler) api.StreamFilter { return &rewrite{} })
	register("hop", func(callbacks api.FilterCallbackHandler) api.StreamFilter { return &hop{callbacks: callbacks} })
	register("version", func(callbacks api.FilterCallbackHandler) api.StreamFilter { return &tell{callbacks: callbacks} })
	register("block", func(api.FilterCallbackHandler) api.StreamFilter { return &block{} })
}

func main() {}

func getAndSet(header api.RequestHeaderMap) {
	host, _ := header.Get(":authority")
	header.Set("x-bench", host)
}

// headers gets a header and sets one.
type headers struct {
	api.PassThroughStreamFilter
}

func (*headers) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	getAndSet(header)
	return api.Continue
}

// read has the whole body in its hands.
type read struct {
	api.PassThroughStreamFilter
}

func (*read) DecodeHeaders(_ api.RequestHeaderMap, endStream bool) api.StatusType {
	if endStream {
		return api.Continue
	}
	return api.StopAndBuffer
}

var newlines int

func (*read) DecodeData(buffer api.BufferInstance, _ bool) api.StatusType {
	if bytes.IndexByte(buffer.Bytes(), '\n') >= 0 {
		newlines++
	}
	return api.Continue
}

// rewrite puts another one of the same length in its place.
type rewrite struct {
	api.PassThroughStreamFilter
}

func (*rewrite) DecodeHeaders(_ api.RequestHeaderMap, endStream bool) api.StatusType {
	if endStream {
		return api.Continue
	}
	return api.StopAndBuffer
}

func (*rewrite) DecodeData(buffer api.BufferInstance, _ bool) api.StatusType {
	_ = buffer.Set(bytes.ToUpper(buffer.Bytes()))
	return api.Continue
}

// hop does what headers does in a goroutine.
type hop struct {
	api.PassThroughStreamFilter
	callbacks api.FilterCallbackHandler
}

func (f *hop) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	go func() {
		callbacks := f.callbacks.DecoderFilterCallbacks()
		defer callbacks.RecoverPanic()
		getAndSet(header)
		callbacks.Continue(api.Continue)
	}()
	return api.Running
}

// version is another one in each build: -ldflags "-X main.version=2". One of the versions that end in "-bad" fails every
// tenth request.
var version = "1"

var told atomic.Uint64

// tell answers with it.
type tell struct {
	api.PassThroughStreamFilter
	callbacks api.FilterCallbackHandler
}

func (f *tell) DecodeHeaders(api.RequestHeaderMap, bool) api.StatusType {
	status := 200
	if strings.HasSuffix(version, "-bad") && told.Add(1)%10 == 0 {
		status = 500
	}
	f.callbacks.DecoderFilterCallbacks().SendLocalReply(status, version, nil, -1, "")
	return api.LocalReply
}

// block does what nobody should: it sleeps in the callback.
type block struct {
	api.PassThroughStreamFilter
}

func (*block) DecodeHeaders(api.RequestHeaderMap, bool) api.StatusType {
	time.Sleep(time.Second)
	return api.Continue
}
