package main

import (
	"os"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"

	"sluice.dev/tests/filters/internal/probe"
)

// noStatus as the status of a run: a goroutine ends without continuing.
const noStatus api.StatusType = -1

// run is one script at work, for one callback of the proxy.
type run struct {
	filter  *filter
	phase   string
	side    *side
	current api.HeaderMap // what set, get, ... mean without a prefix; nil in "factory"
	buffer  api.BufferInstance
	end     bool
	chunk   int // number of this body chunk, from 1

	inGoroutine bool
	status      api.StatusType

	replyHeaders map[string][]string
	replyGrpc    int64
	replyDetails string
}

// mayWait tells whether this callback may return Running.
func (r *run) mayWait() bool {
	switch r.phase {
	case "dh", "dd", "dt", "eh", "ed", "et":
		return true
	}
	return false
}

// exec runs the script as far as it belongs to the callback and returns the
// callback's status.
func (r *run) exec(s script) api.StatusType {
	for i := range s {
		a := &s[i]
		if !a.holds(r) {
			continue
		}
		switch a.name {
		case "go": // the rest runs in a goroutine, and continues the request
			if !r.inGoroutine {
				r.inGoroutine = true
				probe.Goroutines.Add(1)
				go r.continueLater(s[i+1:])
				return api.Running
			}
		case "fork": // the rest runs beside the request, which goes its way
			beside := *r
			beside.inGoroutine = true
			probe.Goroutines.Add(1)
			if a.arg(0) == "bare" {
				go beside.runBare(s[i+1:])
			} else {
				go beside.runBeside(s[i+1:], a.arg(0) == "recover")
			}
			return r.result()
		default:
			if a.try {
				r.tryDo(a)
			} else {
				r.do(a)
			}
		}
	}
	return r.result()
}

func (r *run) result() api.StatusType {
	if r.status == noStatus {
		return api.Running
	}
	return r.status
}

// continueLater is the goroutine behind `go`, written as the SDK wants it: with a
// deferred RecoverPanic.
func (r *run) continueLater(s script) {
	defer probe.Goroutines.Add(-1)
	defer r.side.callbacks.RecoverPanic()
	defer r.notePanic()
	r.exec(s)
	if r.status != noStatus && r.status != api.LocalReply {
		r.side.callbacks.Continue(r.status)
	}
}

// runBeside is the goroutine behind `fork`.
func (r *run) runBeside(s script, recoverBySDK bool) {
	defer probe.Goroutines.Add(-1)
	if recoverBySDK {
		defer r.side.callbacks.RecoverPanic()
		defer r.notePanic()
	} else {
		defer func() {
			if e := recover(); e != nil {
				r.record("panic %v", e)
			}
		}()
	}
	r.exec(s)
}

// runBare is the goroutine behind `fork:bare`, as many plugins have it: a panic ends
// the process.
func (r *run) runBare(s script) {
	defer probe.Goroutines.Add(-1)
	r.exec(s)
}

// notePanic records a panic on its way.
func (r *run) notePanic() {
	if e := recover(); e != nil {
		r.record("panic %v", e)
		panic(e)
	}
}

func (r *run) tryDo(a *action) {
	defer func() {
		if e := recover(); e != nil {
			r.record("try %s: %v", a.name, e)
		}
	}()
	r.do(a)
	r.record("try %s: ok", a.name)
}

func (r *run) record(format string, args ...interface{}) {
	r.filter.record(r.phase, format, args...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func pause(ms int) {
	time.Sleep(time.Duration(ms) * time.Millisecond)
}
