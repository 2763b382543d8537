// Package probe lets a test look into a library of test filters: what each
// request met, and whether everything that was made for it is gone again.
//
// The filters write, the plugin "report" (report.go) answers questions. Each
// library has its own copy of all of this, as it has its own Go runtime.
package probe

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Limits, so that a soak test which forgets to forget does not fill the memory.
const (
	maxIDs    = 4096
	maxEvents = 2000 // per id
)

// The life of the filter objects. Created - Collected is what the Go side still
// holds: a filter is collected only after the proxy destroyed its request and
// no goroutine uses it any more.
var (
	Created    atomic.Int64
	Completed  atomic.Int64 // OnStreamComplete
	Logged     atomic.Int64 // OnLog
	Destroyed  atomic.Int64 // OnDestroy
	Collected  atomic.Int64 // the filter's finalizer ran
	Goroutines atomic.Int64 // started by filters, not yet ended
)

// Watch counts the filter object as created now and as collected later. It uses
// the object's finalizer, so the object must be a fresh pointer of its own.
func Watch[T any](object *T) {
	Created.Add(1)
	runtime.SetFinalizer(object, func(*T) { Collected.Add(1) })
}

var (
	mu      sync.Mutex
	events  = map[string][]string{}
	counts  = map[string]int64{}
	signals = map[string]chan struct{}{}
)

// Record adds one line to the story of a test. Requests without an id leave no
// trace.
func Record(id, format string, args ...interface{}) {
	if id == "" {
		return
	}
	line := fmt.Sprintf(format, args...)
	mu.Lock()
	defer mu.Unlock()
	lines, known := events[id]
	if (known || len(events) < maxIDs) && len(lines) < maxEvents {
		events[id] = append(lines, line)
	}
}

// Count adds to a named counter of the library.
func Count(name string, n int64) {
	mu.Lock()
	defer mu.Unlock()
	counts[name] += n
}

// Signal wakes all goroutines that wait, or will wait, for the name.
func Signal(name string) {
	c := signal(name)
	mu.Lock()
	defer mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// Wait blocks until somebody signals the name.
func Wait(name string) {
	<-signal(name)
}

func signal(name string) chan struct{} {
	mu.Lock()
	defer mu.Unlock()
	c, ok := signals[name]
	if !ok {
		c = make(chan struct{})
		signals[name] = c
	}
	return c
}

// CollectGarbage runs enough cycles for chains of finalizers: the filter's own,
// then the one of the request object behind it.
func CollectGarbage() {
	for i := 0; i < 3; i++ {
		runtime.GC()
		runtime.Gosched()
	}
}

// SDK is the one that this library was built with, as "1.33".
func SDK() string { return sdkVersion }
