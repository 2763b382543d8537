package goroutines

import "github.com/envoyproxy/envoy/contrib/golang/common/go/api"

type filter struct {
	callbacks api.FilterCallbackHandler
	counter   api.CounterMetric
}

func (f *filter) ready(header api.RequestHeaderMap) {
	go func() {
		defer f.callbacks.DecoderFilterCallbacks().RecoverPanic()
		header.Set("a", "b")
		f.callbacks.DecoderFilterCallbacks().Continue(2)
	}()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				api.LogInfo("too late")
			}
		}()
		f.callbacks.DecoderFilterCallbacks().Continue(2)
	}()
	go f.prepared(header)
	go func() { // a panic in what it calls is taken there
		f.prepared(header)
	}()
}

func (f *filter) prepared(header api.RequestHeaderMap) {
	defer f.callbacks.DecoderFilterCallbacks().RecoverPanic()
	f.set(header)
}

func (f *filter) set(header api.RequestHeaderMap) {
	header.Set("a", "b")
}

func (f *filter) unready(header api.RequestHeaderMap) {
	go func() { // want `uses a request \(DecoderFilterCallbacks.Continue\) and has no defer`
		f.callbacks.DecoderFilterCallbacks().Continue(2)
	}()
	go f.set(header) // want `uses a request \(RequestHeaderMap.Set\) and has no defer`
	go func() {      // want `uses a request \(RequestHeaderMap.Set\) and has no defer`
		f.set(header)
	}()
	work := func() { header.Set("a", "b") }
	go work()                                           // want `uses a request \(RequestHeaderMap.Set\)`
	go f.callbacks.DecoderFilterCallbacks().Continue(2) // want `DecoderFilterCallbacks.Continue panics in this goroutine`
	go func() {
		header.Set("a", "b")
		defer f.callbacks.DecoderFilterCallbacks().RecoverPanic() // want `this comes too late: RequestHeaderMap.Set is used before it`
	}()
	go func() { // want `uses a request`
		defer func() {
			func() { _ = recover() }() // one too deep to recover anything
		}()
		header.Set("a", "b")
	}()
	go func() {
		defer f.callbacks.DecoderFilterCallbacks().RecoverPanic()
		go func() { // want `uses a request \(FilterCallbackHandler.GetProperty\)`
			_, _ = f.callbacks.GetProperty("request.path")
		}()
	}()
}

func (f *filter) nothingOfARequest() {
	go func() {
		api.LogInfo("of nobody")
		f.counter.Increment(1)
		f.callbacks.Log(1, "still of nobody")
	}()
	go again(3)
}

func again(n int) {
	if n > 0 {
		again(n - 1)
	}
}
