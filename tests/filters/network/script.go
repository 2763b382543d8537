package main

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/network/source/go/pkg/network"

	"sluice.dev/tests/filters/internal/fatal"
	"sluice.dev/tests/filters/internal/probe"
)

// script does what it is told, by its config and by the lines that the client sends.
//
//	id           events go there
//	echo         what comes is written back and not looked at
//	async        by a goroutine
//	wait_open    OnNewConnection says StopIteration
//	stop_data    so does OnData, always
//	stop_write   so does OnWrite, until it was shown so many bytes
//	name         only lines that begin with the name and a dot are for it
//
// Lines:
//
//	say TEXT          TEXT and a newline are written
//	end TEXT          the same, with endStream
//	many N            N bytes are written
//	info              the addresses are written
//	state KEY VALUE   goes into the filter state
//	get KEY           what is there is written
//	close TYPE
//	empty             an empty Write, whose panic is written
//	late SIGNAL       a goroutine waits for the signal, then calls everything there is
//	fail ADDRESS      an upstream that is not to be had: the event tells the reason
//	go                the rest by a goroutine
//	hold              the filter is never collected
//	wait SIGNAL       the callback returns once somebody signals
//	stop, pass        what OnData returns
//	die HOW           the end of the process
type script struct {
	config  config
	cb      api.ConnectionCallback
	id      string
	written atomic.Int64
	rest    string
}

func newScript(c config, cb api.ConnectionCallback) api.DownstreamFilter {
	return &script{config: c, cb: cb, id: c.text("id")}
}

func (s *script) OnNewConnection() api.FilterStatus {
	probe.Record(s.id, "new")
	if s.config.is("wait_open") {
		return api.NetworkFilterStopIteration
	}
	return api.NetworkFilterContinue
}

func (s *script) OnData(data []byte, end bool) api.FilterStatus {
	probe.Count("data_bytes", int64(len(data)))
	probe.Record(s.id, "data: len=%d end=%t", len(data), end)
	status := api.NetworkFilterContinue
	if s.config.is("stop_data") {
		status = api.NetworkFilterStopIteration
	}
	if s.config.is("echo") {
		if s.config.is("async") {
			probe.Goroutines.Add(1)
			go func() {
				defer probe.Goroutines.Add(-1)
				s.cb.Write(data, end)
			}()
		} else if len(data) > 0 {
			s.cb.Write(data, end)
		}
		return status
	}
	lines := strings.Split(s.rest+string(data), "\n")
	s.rest = lines[len(lines)-1]
	lines = lines[:len(lines)-1]
	for i, line := range lines {
		if own := s.config.text("name"); own != "" {
			mine := false
			if line, mine = strings.CutPrefix(line, own+"."); !mine {
				continue
			}
		}
		name, argument, _ := strings.Cut(line, " ")
		switch name {
		case "stop":
			status = api.NetworkFilterStopIteration
		case "pass":
			status = api.NetworkFilterContinue
		case "go":
			rest := lines[i+1:]
			probe.Goroutines.Add(1)
			go func() {
				defer probe.Goroutines.Add(-1)
				for _, line := range rest {
					name, argument, _ := strings.Cut(line, " ")
					s.do(name, argument)
				}
			}()
			return status
		default:
			s.do(name, argument)
		}
	}
	return status
}

func (s *script) do(name, argument string) {
	switch name {
	case "say":
		s.cb.Write([]byte(argument+"\n"), false)
	case "end":
		s.cb.Write([]byte(argument+"\n"), true)
	case "many":
		n, _ := strconv.Atoi(argument)
		s.cb.Write(make([]byte, n), false)
	case "info":
		s.cb.Write([]byte(s.info()+"\n"), false)
	case "state":
		key, value, _ := strings.Cut(argument, " ")
		s.cb.StreamInfo().FilterState().SetString(key, value, api.StateTypeMutable,
			api.LifeSpanConnection, api.None)
		s.cb.Write([]byte("set\n"), false)
	case "get":
		s.cb.Write([]byte(s.get(s.cb, argument)+"\n"), false)
	case "close":
		n, _ := strconv.Atoi(argument)
		s.cb.Close(api.ConnectionCloseType(n))
	case "empty":
		s.cb.Write([]byte(s.writeNothing()+"\n"), false)
	case "late":
		probe.Goroutines.Add(1)
		go s.late(argument)
	case "fail":
		network.CreateUpstreamConn(argument, &failing{id: s.id})
	case "hold":
		hold(s)
	case "wait":
		probe.Wait(argument)
	case "die":
		fatal.Die(argument)
	}
}

func (s *script) info() string {
	local, _ := s.cb.StreamInfo().UpstreamLocalAddress() // of the connection that the callbacks are for
	remote, _ := s.cb.StreamInfo().UpstreamRemoteAddress()
	return local + " " + remote
}

func (s *script) get(cb api.ConnectionCallback, key string) string {
	return withRoom(cb.StreamInfo().FilterState()).GetString(key)
}

func (s *script) writeNothing() (said string) {
	defer func() { said = fmt.Sprint(recover()) }()
	s.cb.Write(nil, false)
	return "nothing happened"
}

// late calls when the connection is over, and again when the proxy has taken back what Go knew it by.
func (s *script) late(signal string) {
	defer probe.Goroutines.Add(-1)
	cb, id := s.cb, s.id
	probe.Wait(signal)
	for range 3 {
		cb.Write([]byte("late"), false)
		cb.Close(api.FlushWrite)
		cb.StreamInfo().FilterState().SetString("k", "v", api.StateTypeMutable, api.LifeSpanConnection, api.None)
		local, _ := cb.StreamInfo().UpstreamLocalAddress()
		probe.Record(id, "late: %t %q", local != "", s.get(cb, "tenant"))
		runtime.GC()
	}
}

func (s *script) OnEvent(event api.ConnectionEvent) {
	probe.Count("events", 1)
	probe.Record(s.id, "event: %s", event)
}

func (s *script) OnWrite(data []byte, end bool) api.FilterStatus {
	probe.Count("write_bytes", int64(len(data)))
	probe.Record(s.id, "write: len=%d end=%t", len(data), end)
	if needed, ok := s.config["stop_write"].(float64); ok && float64(len(data)) < needed {
		return api.NetworkFilterStopIteration
	}
	return api.NetworkFilterContinue
}

// failing is an upstream that is never there.
type failing struct {
	api.EmptyUpstreamFilter
	id string
}

func (f *failing) OnPoolFailure(reason api.PoolFailureReason, _ string) {
	probe.Record(f.id, "failure: %s", reason)
}

func (f *failing) OnPoolReady(api.ConnectionCallback) {
	probe.Record(f.id, "ready")
}

func (f *failing) OnData([]byte, bool) {}
