// Command basic is the library that most tests of Go filters use. Its plugin
// "basic" does in each phase of a request what a script in the request's query
// tells it to do; README.md in the folder above lists the actions.
package main

import (
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"

	"sluice.dev/tests/filters/internal/probe"
	"sluice.dev/tests/filters/internal/works"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("basic", newFilter, &parser{})
	http.RegisterHttpFilterFactoryAndConfigParser("passthrough", http.PassThroughFactory, http.NullParser)
	http.RegisterHttpFilterFactoryAndConfigParser("versioned", newVersioned, &versionedParser{})
	probe.RegisterReport("basic")
	works.Register()
	// Runs while the library is being opened, before any configuration.
	api.LogInfo("basic: init")
}

func main() {}

func newFilter(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	f := &filter{callbacks: callbacks, config: c.(*config)}
	f.decode.callbacks = callbacks.DecoderFilterCallbacks()
	f.encode.callbacks = callbacks.EncoderFilterCallbacks()
	probe.Watch(f)
	if s := f.config.scripts["factory"]; s != nil {
		(&run{filter: f, phase: "factory", side: &f.decode}).exec(s)
	}
	return f
}

// filter is one request of the plugin "basic".
type filter struct {
	callbacks api.FilterCallbackHandler
	config    *config

	id             string     // where events go, "" for nowhere
	query          url.Values // the scripts of this request
	decode, encode side
	destroyed      atomic.Bool
}

// side is what the filter keeps of one direction, among it the header maps from
// earlier phases: plugins do use them later.
type side struct {
	callbacks api.FilterProcessCallbacks
	headers   api.HeaderMap
	trailers  api.HeaderMap
	first     api.HeaderMap // the trailers as the filter was shown them first, whatever came later
	chunks    int
	kept      api.BufferInstance // by b.keep
}

// begin reads the scripts out of the request's path, once.
func (f *filter) begin(header api.RequestHeaderMap) {
	if f.query != nil {
		return
	}
	_, rawQuery, _ := strings.Cut(header.Path(), "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		panic("script: " + err.Error())
	}
	f.query = query
	f.id = query.Get("id")
}

// record adds a line to the events of this request.
func (f *filter) record(phase, format string, args ...interface{}) {
	if f.config.name != "" {
		phase = f.config.name + "/" + phase
	}
	probe.Record(f.id, phase+": "+format, args...)
}

// param returns a parameter of the query: a filter with a name listens to
// "name.key" only.
func (f *filter) param(key string) string {
	if f.config.name != "" {
		key = f.config.name + "." + key
	}
	return f.query.Get(key)
}

// play runs the scripts of a phase and returns what the callback has to return.
func (f *filter) play(r *run) api.StatusType {
	r.filter = f
	r.status = api.Continue
	s := f.config.scripts[r.phase]
	if text := f.param(r.phase); text != "" {
		own, err := parseScript(text)
		if err != nil {
			panic("script: " + err.Error())
		}
		s = append(append(script{}, s...), own...)
	}
	if r.mayWait() && (f.config.async || f.param("async") == "1") {
		s = append(script{{name: "go"}}, s...)
	}
	return r.exec(s)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, end bool) api.StatusType {
	f.begin(header)
	f.record("dh", "end=%d", flag(end))
	f.decode.headers = header
	return f.play(&run{phase: "dh", side: &f.decode, current: header, end: end})
}

func (f *filter) DecodeData(buffer api.BufferInstance, end bool) api.StatusType {
	f.decode.chunks++
	f.record("dd", "len=%d end=%d", buffer.Len(), flag(end))
	return f.play(&run{phase: "dd", side: &f.decode, current: f.decode.headers,
		buffer: buffer, end: end, chunk: f.decode.chunks})
}

func (f *filter) DecodeTrailers(trailer api.RequestTrailerMap) api.StatusType {
	f.record("dt", "called")
	f.decode.trailers, f.decode.first = trailer, trailer
	return f.play(&run{phase: "dt", side: &f.decode, current: trailer, end: true})
}

func (f *filter) EncodeHeaders(header api.ResponseHeaderMap, end bool) api.StatusType {
	status, _ := header.Status()
	f.record("eh", "end=%d status=%d", flag(end), status)
	f.encode.headers = header
	return f.play(&run{phase: "eh", side: &f.encode, current: header, end: end})
}

func (f *filter) EncodeData(buffer api.BufferInstance, end bool) api.StatusType {
	f.encode.chunks++
	f.record("ed", "len=%d end=%d", buffer.Len(), flag(end))
	return f.play(&run{phase: "ed", side: &f.encode, current: f.encode.headers,
		buffer: buffer, end: end, chunk: f.encode.chunks})
}

func (f *filter) EncodeTrailers(trailer api.ResponseTrailerMap) api.StatusType {
	f.record("et", "called")
	f.encode.trailers, f.encode.first = trailer, trailer
	return f.play(&run{phase: "et", side: &f.encode, current: trailer, end: true})
}

// logged runs a script of the log phase with the maps that the proxy showed, each
// nil where there is none.
func (f *filter) logged(phase string, reqHeader, reqTrailer, respHeader, respTrailer api.HeaderMap) {
	f.record(phase, "req=%d reqt=%d resp=%d respt=%d", flag(reqHeader != nil),
		flag(reqTrailer != nil), flag(respHeader != nil), flag(respTrailer != nil))
	f.decode.headers, f.decode.trailers = reqHeader, reqTrailer
	f.encode.headers, f.encode.trailers = respHeader, respTrailer
	f.play(&run{phase: phase, side: &f.encode, current: respHeader})
}

// aside is what a log in between works on: another callback may be at work on the filter itself.
func (f *filter) aside() *filter {
	return &filter{callbacks: f.callbacks, config: f.config, id: f.id, query: f.query,
		decode: side{callbacks: f.decode.callbacks}, encode: side{callbacks: f.encode.callbacks}}
}

func (f *filter) OnStreamComplete() {
	probe.Completed.Add(1)
	f.record("complete", "called")
	f.play(&run{phase: "complete", side: &f.encode, current: f.encode.headers})
}

func (f *filter) OnDestroy(reason api.DestroyReason) {
	probe.Destroyed.Add(1)
	f.destroyed.Store(true)
	f.record("destroy", "reason=%d", reason)
	f.play(&run{phase: "destroy", side: &f.encode, current: f.encode.headers})
}
