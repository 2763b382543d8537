package main

import (
	"sync"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/network/source/go/pkg/network"

	"sluice.dev/tests/filters/internal/probe"
)

// proxy is a TCP proxy in Go: a connection to `upstream` for each client's.
//
//	id          events go there
//	upstream    its address
//	half_close  the upstream's end is passed on as an end, and not as a close
type proxy struct {
	config config
	id     string
	down   api.ConnectionCallback

	lock    sync.Mutex
	up      api.ConnectionCallback // nil: not connected
	pending []byte                 // for when it is
	gone    bool                   // the client
}

func newProxy(c config, cb api.ConnectionCallback) api.DownstreamFilter {
	return &proxy{config: c, id: c.text("id"), down: cb}
}

func (p *proxy) OnNewConnection() api.FilterStatus {
	network.CreateUpstreamConn(p.config.text("upstream"), &upstream{proxy: p})
	return api.NetworkFilterContinue
}

func (p *proxy) OnData(data []byte, end bool) api.FilterStatus {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.up == nil {
		p.pending = append(p.pending, data...)
	} else if len(data) > 0 {
		p.up.Write(data, end)
	}
	return api.NetworkFilterContinue
}

func (p *proxy) OnEvent(event api.ConnectionEvent) {
	probe.Count("events", 1)
	probe.Record(p.id, "event: %s", event)
	p.lock.Lock()
	defer p.lock.Unlock()
	p.gone = true
	if p.up != nil {
		p.up.Close(api.FlushWrite)
	}
}

func (p *proxy) OnWrite([]byte, bool) api.FilterStatus {
	return api.NetworkFilterContinue
}

type upstream struct {
	proxy *proxy
}

func (u *upstream) OnPoolReady(cb api.ConnectionCallback) {
	p := u.proxy
	p.lock.Lock()
	defer p.lock.Unlock()
	probe.Count("upstreams", 1)
	local, _ := cb.StreamInfo().UpstreamLocalAddress()
	remote, _ := cb.StreamInfo().UpstreamRemoteAddress()
	probe.Record(p.id, "ready: %s %s", local, remote)
	p.up = cb
	if p.config.is("half_close") {
		cb.EnableHalfClose(true)
	}
	if len(p.pending) > 0 {
		cb.Write(p.pending, false)
		p.pending = nil
	}
	if p.gone {
		cb.Close(api.FlushWrite)
	}
}

func (u *upstream) OnPoolFailure(reason api.PoolFailureReason, _ string) {
	probe.Record(u.proxy.id, "failure: %s", reason)
	u.proxy.down.Close(api.NoFlush)
}

func (u *upstream) OnData(data []byte, end bool) {
	probe.Record(u.proxy.id, "upstream data: len=%d end=%t", len(data), end)
	if len(data) > 0 {
		u.proxy.down.Write(data, false)
	}
	if end {
		u.proxy.down.Close(api.FlushWrite)
	}
}

func (u *upstream) OnEvent(event api.ConnectionEvent) {
	probe.Count("upstream_events", 1)
	probe.Record(u.proxy.id, "upstream event: %s", event)
	u.proxy.down.Close(api.FlushWrite)
}
