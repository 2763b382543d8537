//go:build sdk131

package main

import "sluice.dev/tests/filters/internal/probe"

// The log callbacks of SDK 1.31 get no header maps: scripts see those that the
// earlier phases kept.

func (f *filter) OnLogDownstreamStart() {
	f.logged("logstart", f.decode.headers, f.decode.trailers, f.encode.headers, f.encode.trailers)
}

func (f *filter) OnLogDownstreamPeriodic() {
	f.logged("logperiodic", f.decode.headers, f.decode.trailers, f.encode.headers, f.encode.trailers)
}

func (f *filter) OnLog() {
	probe.Logged.Add(1)
	f.logged("log", f.decode.headers, f.decode.trailers, f.encode.headers, f.encode.trailers)
}
