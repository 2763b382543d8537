package main

import (
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/network/source/go/pkg/network"

	"sluice.dev/tests/filters/internal/probe"
	"sluice.dev/tests/filters/internal/works"
)

// everything calls all that the SDK offers a network filter, for a client that sends "all" and then waits for the
// upstream's answer. Config: the address of an `upstream`.
type everything struct {
	config config
	cb     api.ConnectionCallback
	done   bool
}

func newEverything(c config, cb api.ConnectionCallback) api.DownstreamFilter {
	return &everything{config: c, cb: cb}
}

func (e *everything) OnNewConnection() api.FilterStatus {
	works.Told[api.DownstreamFilter]("called")
	return api.NetworkFilterContinue
}

func (e *everything) OnData(data []byte, end bool) api.FilterStatus {
	works.Told[api.DownstreamFilter]("bytes: %d, end: %t", len(data), end)
	if !e.done {
		e.done = true
		connection(e.cb)
		works.Ask("client", e.cb, "Write", []byte("written\n"), false)
		works.Call(network.CreateUpstreamConn, "127.0.0.1:1", &everythingUp{down: e.cb})
		works.Call(network.CreateUpstreamConn, e.config.text("upstream"), &everythingUp{down: e.cb})
	}
	return api.NetworkFilterContinue
}

func (e *everything) OnEvent(event api.ConnectionEvent) {
	works.Told[api.DownstreamFilter]("%s", event)
	probe.Count("everything_ended", 1)
}

func (e *everything) OnWrite(data []byte, end bool) api.FilterStatus {
	works.Told[api.DownstreamFilter]("bytes: %d, end: %t", len(data), end)
	return api.NetworkFilterContinue
}

// connection asks for what is known of a client's connection, with the methods that the SDK has not made. EnableHalfClose
// is not for these.
func connection(cb api.ConnectionCallback) {
	var info api.StreamInfo
	works.AskFor("client", cb, "StreamInfo", &info)
	works.Ask("client", cb, "EnableHalfClose", true)
	for _, method := range []string{"GetRouteName", "FilterChainName", "Protocol", "ResponseCode",
		"ResponseCodeDetails", "AttemptCount", "DynamicMetadata", "DownstreamLocalAddress", "DownstreamRemoteAddress",
		"UpstreamLocalAddress", "UpstreamRemoteAddress", "UpstreamClusterName", "VirtualClusterName", "WorkerID"} {
		works.Ask("connection", info, method)
	}
	var state api.FilterState
	works.AskFor("connection", info, "FilterState", &state)
	works.Ask("connection", state, "SetString", "works", "value", api.StateTypeMutable, api.LifeSpanConnection,
		api.None)
	works.Ask("connection", withRoom(state), "GetString", "works")
}

type everythingUp struct {
	down api.ConnectionCallback
	up   api.ConnectionCallback
}

func (u *everythingUp) OnPoolReady(cb api.ConnectionCallback) {
	works.Told[api.UpstreamFilter]("called")
	u.up = cb
	works.Ask("upstream", cb, "EnableHalfClose", true)
	var info api.StreamInfo
	works.AskFor("upstream", cb, "StreamInfo", &info)
	works.Ask("upstream", cb, "Write", []byte("hello\n"), false)
}

func (u *everythingUp) OnPoolFailure(reason api.PoolFailureReason, _ string) {
	works.Told[api.UpstreamFilter]("%s", reason)
}

func (u *everythingUp) OnData(data []byte, end bool) {
	if len(data) > 0 {
		works.Told[api.UpstreamFilter]("%q", data)
	}
	if end { // with the data, or after it
		works.Told[api.UpstreamFilter]("end")
		works.Ask("upstream", u.up, "Close", api.FlushWrite)
	}
}

func (u *everythingUp) OnEvent(event api.ConnectionEvent) {
	works.Told[api.UpstreamFilter]("%s", event)
	works.Ask("client", u.down, "Close", api.FlushWrite)
}
