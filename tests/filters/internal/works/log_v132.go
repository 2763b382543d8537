//go:build !sdk131

package works

import "github.com/envoyproxy/envoy/contrib/golang/common/go/api"

func (f *filter) OnLogDownstreamStart(header api.RequestHeaderMap) {
	Told[api.StreamFilter]("request: %t", header != nil)
}

func (f *filter) OnLogDownstreamPeriodic(header api.RequestHeaderMap, trailer api.RequestTrailerMap,
	respHeader api.ResponseHeaderMap, respTrailer api.ResponseTrailerMap) {
	Told[api.StreamFilter]("request: %t", header != nil)
}

func (f *filter) OnLog(header api.RequestHeaderMap, trailer api.RequestTrailerMap,
	respHeader api.ResponseHeaderMap, respTrailer api.ResponseTrailerMap) {
	if f.way == "all" {
		Told[api.StreamFilter]("request: %t, %t, response: %t, %t", header != nil, trailer != nil,
			respHeader != nil, respTrailer != nil)
	}
	f.logged()
}
