// Command gcloop is a library of one test filter that needs Go's asynchronous
// preemption on every request: a goroutine spins in a loop that has no point at
// which the runtime could stop it by itself, while another collects garbage. The
// collection ends only if the runtime's signal (SIGURG) reaches its handler in
// this library, also when other libraries have installed theirs later. A request
// whose collection does not end gets no answer.
//
// It can also profile itself, for which a Go runtime takes SIGPROF, hold memory, and
// tell who holds it (heap.go).
package main

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"

	"sluice.dev/tests/filters/internal/probe"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("gcloop", newFilter, http.NullParser)
	probe.RegisterReport("gcloop")
}

func main() {}

type filter struct {
	api.PassThroughStreamFilter
	callbacks api.FilterCallbackHandler
}

func newFilter(_ interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	f := &filter{callbacks: callbacks}
	probe.Watch(f)
	return f
}

// DecodeHeaders collects once on the way in, on the proxy's thread if the path
// has "sync", else in a goroutine. If it has "profile", it answers with a profile
// of its own work on the proxy's thread; if it has "hold=N", it holds N MiB more.
func (f *filter) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	if strings.Contains(header.Path(), "profile") {
		f.callbacks.DecoderFilterCallbacks().SendLocalReply(200, profileItself(), nil, 0, "profile")
		return api.LocalReply
	}
	if strings.Contains(header.Path(), "hold=") {
		f.callbacks.DecoderFilterCallbacks().SendLocalReply(200, hold(header.Path()), nil, 0, "hold")
		return api.LocalReply
	}
	if strings.Contains(header.Path(), "sync") {
		collectAgainstLoop()
		return api.Continue
	}
	probe.Goroutines.Add(1)
	go func() {
		defer probe.Goroutines.Add(-1)
		callbacks := f.callbacks.DecoderFilterCallbacks()
		defer callbacks.RecoverPanic()
		collectAgainstLoop()
		callbacks.Continue(api.Continue)
	}()
	return api.Running
}

// EncodeHeaders tells how many loops were stopped so far: each library adds to
// x-gcloop.
func (f *filter) EncodeHeaders(header api.ResponseHeaderMap, _ bool) api.StatusType {
	header.Add("x-gcloop", strconv.FormatInt(stopped.Load(), 10))
	return api.Continue
}

func (f *filter) OnDestroy(api.DestroyReason) { probe.Destroyed.Add(1) }

var stopped atomic.Int64

// collectAgainstLoop returns when a collection that was begun while a loop spun
// has ended.
func collectAgainstLoop() {
	var spinning, stop atomic.Bool
	done := make(chan struct{})
	go func() {
		spinning.Store(true)
		spin(&stop)
		close(done)
	}()
	for !spinning.Load() {
		runtime.Gosched()
	}
	runtime.GC()
	stop.Store(true)
	<-done
	stopped.Add(1)
}

// spin is compiled to a few instructions without a call: an atomic load is one of
// them, so nothing in here lets the scheduler in.
//
//go:noinline
func spin(stop *atomic.Bool) {
	for !stop.Load() {
	}
}

// profileItself returns a profile in Go's format, or what went wrong.
func profileItself() string {
	var out bytes.Buffer
	if err := pprof.StartCPUProfile(&out); err != nil {
		return err.Error()
	}
	burn(threadMicroseconds() + 800_000)
	pprof.StopCPUProfile()
	return out.String()
}

// burn works until the thread has used so much processor time.
//
//go:noinline
func burn(until int64) {
	for threadMicroseconds() < until {
		for i := int64(0); i < 1_000_000; i++ {
			worked += i ^ worked
		}
	}
}

var worked int64

func threadMicroseconds() int64 {
	const ofThread = 1
	var usage syscall.Rusage
	if err := syscall.Getrusage(ofThread, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano()/1000 + usage.Stime.Nano()/1000
}
