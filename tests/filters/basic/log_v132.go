//go:build !sdk131

package main

import (
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"

	"sluice.dev/tests/filters/internal/probe"
)

func (f *filter) OnLogDownstreamStart(reqHeader api.RequestHeaderMap) {
	f.begin(reqHeader)
	f.logged("logstart", reqHeader, nil, nil, nil)
}

func (f *filter) OnLogDownstreamPeriodic(reqHeader api.RequestHeaderMap, reqTrailer api.RequestTrailerMap,
	respHeader api.ResponseHeaderMap, respTrailer api.ResponseTrailerMap) {
	f.begin(reqHeader)
	f.aside().logged("logperiodic", reqHeader, reqTrailer, respHeader, respTrailer)
}

func (f *filter) OnLog(reqHeader api.RequestHeaderMap, reqTrailer api.RequestTrailerMap,
	respHeader api.ResponseHeaderMap, respTrailer api.ResponseTrailerMap) {
	probe.Logged.Add(1)
	f.begin(reqHeader)
	f.logged("log", reqHeader, reqTrailer, respHeader, respTrailer)
}
