package probe

import (
	"encoding/json"
	"net/url"
	"reflect"
	"runtime"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
)

// Report is what the plugin "report" answers, as JSON.
type Report struct {
	Library        string           `json:"library"`
	SDK            string           `json:"sdk"`
	GoVersion      string           `json:"go_version"`
	Concurrency    uint32           `json:"concurrency"`
	WorkerID       uint32           `json:"worker_id"`
	Created        int64            `json:"created"`
	Completed      int64            `json:"completed"`
	Logged         int64            `json:"logged"`
	Destroyed      int64            `json:"destroyed"`
	Collected      int64            `json:"collected"`
	Goroutines     int64            `json:"goroutines"`
	GoroutinesLive int              `json:"goroutines_runtime"`
	GCCycles       uint32           `json:"gc_cycles"`
	HeapBytes      uint64           `json:"heap_bytes"`
	RequestMap     int              `json:"request_map"`
	Counts         map[string]int64 `json:"counts"`
	Events         []string         `json:"events"`
}

// RegisterReport adds the plugin "report" to a library. It answers every request
// with a Report. Query parameters:
//
//	id=ID        the events of that id
//	forget=ID    drop the events of that id afterwards
//	signal=NAME  wake who waits for NAME, before anything else
//	gc=1         collect garbage first
func RegisterReport(library string) {
	factory := func(_ interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
		return &reporter{library: library, callbacks: callbacks}
	}
	http.RegisterHttpFilterFactoryAndConfigParser("report", factory, http.NullParser)
}

type reporter struct {
	api.PassThroughStreamFilter
	library   string
	callbacks api.FilterCallbackHandler
}

func (r *reporter) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	_, rawQuery, _ := strings.Cut(header.Path(), "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		r.reply(400, "text/plain", err.Error())
		return api.LocalReply
	}
	for _, name := range query["signal"] {
		Signal(name)
	}
	if query.Get("gc") == "1" {
		CollectGarbage()
	}
	text, err := json.Marshal(r.report(query.Get("id")))
	if err != nil {
		r.reply(500, "text/plain", err.Error())
		return api.LocalReply
	}
	forget(query["forget"])
	r.reply(200, "application/json", string(text))
	return api.LocalReply
}

func (r *reporter) reply(code int, kind, text string) {
	r.callbacks.DecoderFilterCallbacks().SendLocalReply(
		code, text, map[string][]string{"content-type": {kind}}, 0, "report")
}

func (r *reporter) report(id string) *Report {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	// Counters of later steps first, so that a reader never sees more filters
	// collected than created.
	rep := &Report{
		Library: r.library, SDK: sdkVersion, GoVersion: runtime.Version(),
		Concurrency: http.EnvoyConcurrency(), WorkerID: r.callbacks.StreamInfo().WorkerID(),
		Collected: Collected.Load(), Destroyed: Destroyed.Load(), Logged: Logged.Load(),
		Completed: Completed.Load(), Created: Created.Load(),
		Goroutines: Goroutines.Load(), GoroutinesLive: runtime.NumGoroutine(),
		GCCycles: mem.NumGC, HeapBytes: mem.HeapAlloc, RequestMap: requestMapLen(),
		Counts: map[string]int64{}, Events: []string{},
	}
	mu.Lock()
	defer mu.Unlock()
	for name, n := range counts {
		rep.Counts[name] = n
	}
	rep.Events = append(rep.Events, events[id]...)
	return rep
}

// requestMapLen is how many requests the SDK has in its maps, of which it has one for
// each worker. They have no locks: a length that is read meanwhile may be old.
func requestMapLen() int {
	total := 0
	maps := reflect.ValueOf(http.Requests).Elem().FieldByName("requests")
	for i := 0; i < maps.Len(); i++ {
		total += maps.Index(i).Len()
	}
	return total
}

func forget(ids []string) {
	mu.Lock()
	defer mu.Unlock()
	for _, id := range ids {
		delete(events, id)
	}
}
