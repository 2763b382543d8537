package main

import (
	"fmt"
	"sync/atomic"
	"time"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/tests/filters/internal/probe"
)

// --- plugin "versioned": how it behaves depends on the SDK that it was built with, as if that were its version ---

type behaviour struct {
	failEvery uint64 // 500 for each so-manieth request; 0: for none
	sleep     time.Duration
	requests  atomic.Uint64
}

type versionedParser struct{}

// Parse wants a TypedStruct of SDKs, each with fail_every and sleep_ms; an SDK that is not there does nothing.
func (*versionedParser) Parse(any *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	config := &xds.TypedStruct{}
	if err := any.UnmarshalTo(config); err != nil {
		return nil, err
	}
	of, _ := config.GetValue().AsMap()[probe.SDK()].(map[string]interface{})
	number := func(name string) float64 { n, _ := of[name].(float64); return n }
	if of["error"] != nil {
		return nil, fmt.Errorf("%v", of["error"])
	}
	return &behaviour{failEvery: uint64(number("fail_every")), sleep: time.Duration(number("sleep_ms")) * time.Millisecond}, nil
}

func (*versionedParser) Merge(_, child interface{}) interface{} { return child }

type versioned struct {
	api.PassThroughStreamFilter
	callbacks api.FilterCallbackHandler
	*behaviour
}

func newVersioned(config interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	return &versioned{callbacks: callbacks, behaviour: config.(*behaviour)}
}

func (f *versioned) DecodeHeaders(api.RequestHeaderMap, bool) api.StatusType {
	time.Sleep(f.sleep)
	if n := f.requests.Add(1); f.failEvery > 0 && n%f.failEvery == 0 {
		f.callbacks.DecoderFilterCallbacks().SendLocalReply(500, "versioned", nil, 0, "versioned")
		return api.LocalReply
	}
	return api.Continue
}

func (f *versioned) EncodeHeaders(header api.ResponseHeaderMap, _ bool) api.StatusType {
	header.Set("x-sdk", probe.SDK())
	return api.Continue
}
