package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand"
	"runtime"
	"sort"
	"strconv"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"

	"sluice.dev/tests/filters/internal/fatal"
	"sluice.dev/tests/filters/internal/probe"
)

// do carries out one action.
func (r *run) do(a *action) {
	if headers, name, ok := r.headerMap(a.name); ok {
		r.doHeader(headers, name, a)
		return
	}
	if strings.HasPrefix(a.name, "b.") {
		r.doBuffer(r.buffer, a.name, a)
		return
	}
	if name, ok := strings.CutPrefix(a.name, "kept."); ok { // on the chunk that b.keep put by
		r.doBuffer(r.side.kept, name, a)
		return
	}
	callbacks := r.side.callbacks
	switch a.name {
	// Flow.
	case "ret": // the status that ends the phase, by number or "none"
		if a.arg(0) == "none" {
			r.status = noStatus
		} else {
			r.status = api.StatusType(a.num(0))
		}
	case "continue": // Continue(status) now; the script goes on
		callbacks.Continue(api.StatusType(a.num(0)))
	case "other.continue": // the same on the other side's callbacks
		r.other().Continue(api.StatusType(a.num(0)))
	case "sleep":
		pause(a.num(0))
	case "jitter": // up to so many ms
		pause(rand.Intn(a.num(0) + 1))
	case "wait": // until the test signals the name
		r.record("wait %s", a.arg(0))
		probe.Wait(a.arg(0))
		r.record("woken %s", a.arg(0))
	case "waitfile": // until the file is there: also when nobody can get at the library
		for !exists(a.arg(0)) {
			pause(2)
		}
	case "hoarded":
		kept, changed := probe.Hoard()
		r.record("hoarded %d changed %d", kept, changed)
	case "signal":
		probe.Signal(a.arg(0))
	case "event":
		r.record("%s", a.arg(0))
	case "panic":
		panic(a.arg(0))
	case "nilpanic": // a fault that the runtime turns into a panic
		var nobody *filter
		nobody.id = "x"
	case "die": // exit, maps, fault, stack, loop, goroutine, kill: the end of the process
		fatal.Die(a.arg(0))
	case "gc":
		collect()

	// Local replies.
	case "reply.header":
		if r.replyHeaders == nil {
			r.replyHeaders = map[string][]string{}
		}
		r.replyHeaders[a.arg(0)] = append(r.replyHeaders[a.arg(0)], a.arg(1))
	case "reply.grpc":
		r.replyGrpc = int64(a.num(0))
	case "reply.details":
		r.replyDetails = a.arg(0)
	case "reply":
		r.status = api.LocalReply
		callbacks.SendLocalReply(a.num(0), a.arg(1), r.replyHeaders, r.replyGrpc, r.replyDetails)
	case "other.reply":
		r.other().SendLocalReply(a.num(0), a.arg(1), r.replyHeaders, r.replyGrpc, r.replyDetails)

	// The request as a whole.
	case "log":
		r.filter.callbacks.Log(api.LogType(a.num(0)), a.arg(1))
	case "loglevel":
		r.record("loglevel %v", r.filter.callbacks.LogLevel())
	case "apilog":
		apiLog(api.LogType(a.num(0)), a.arg(1))
	case "info":
		r.record("info %s", streamInfo(r.filter.callbacks.StreamInfo(), a.arg(0)))
	case "clearroute":
		r.filter.callbacks.ClearRouteCache()
	case "refreshroute":
		refreshRoute(r.filter.callbacks)
	case "property":
		value, err := r.filter.callbacks.GetProperty(a.arg(0))
		r.record("property %s=%s err=%v", a.arg(0), value, err)
	case "properties": // several at once, each with what it is or the error's name
		for _, path := range a.args {
			r.record("%s = %s", path, property(r.filter.callbacks, path))
		}
	case "property.note": // where the proxy's own log finds it
		r.filter.callbacks.StreamInfo().DynamicMetadata().Set(a.arg(0), a.arg(1),
			property(r.filter.callbacks, a.arg(2)))
	case "metadata.set":
		r.filter.callbacks.StreamInfo().DynamicMetadata().Set(a.arg(0), a.arg(1), a.arg(2))
	case "metadata.json":
		var value interface{}
		if err := json.Unmarshal([]byte(a.arg(2)), &value); err != nil {
			panic("script: " + err.Error())
		}
		r.filter.callbacks.StreamInfo().DynamicMetadata().Set(a.arg(0), a.arg(1), value)
	case "metadata.deep": // so many lists in each other
		var value interface{} = "bottom"
		for i := 0; i < a.num(2); i++ {
			value = []interface{}{value}
		}
		r.filter.callbacks.StreamInfo().DynamicMetadata().Set(a.arg(0), a.arg(1), value)
	case "metadata.get":
		r.record("metadata %v", r.filter.callbacks.StreamInfo().DynamicMetadata().Get(a.arg(0)))
	case "state.set":
		kind, span, sharing := api.StateTypeMutable, api.LifeSpanRequest, api.None
		if len(a.args) > 2 {
			kind = api.StateType(a.num(2))
			span = api.LifeSpan(a.num(3))
			sharing = api.StreamSharing(a.num(4))
		}
		r.filter.callbacks.StreamInfo().FilterState().SetString(a.arg(0), a.arg(1), kind, span, sharing)
	case "state.get":
		r.record("state %s", r.filter.callbacks.StreamInfo().FilterState().GetString(a.arg(0)))
	case "adddata":
		addData(callbacks, []byte(a.arg(0)), a.arg(1) == "stream")

	default:
		panic("script: unknown action " + a.name)
	}
}

func property(callbacks api.FilterCallbackHandler, path string) string {
	value, err := callbacks.GetProperty(path)
	switch err {
	case nil:
		return strconv.Quote(value)
	case api.ErrValueNotFound:
		return "absent"
	case api.ErrSerializationFailure:
		return "no text"
	}
	return err.Error()
}

// other is the callbacks of the side that this phase does not belong to.
func (r *run) other() api.FilterProcessCallbacks {
	if r.side == &r.filter.decode {
		return r.filter.encode.callbacks
	}
	return r.filter.decode.callbacks
}

// headerMap finds the map that an action such as "set", "req.set" or "respt.get"
// works on. Prefixed ones may be from an earlier phase.
func (r *run) headerMap(name string) (api.HeaderMap, string, bool) {
	prefix, rest, found := strings.Cut(name, ".")
	if found {
		switch prefix {
		case "req":
			return r.filter.decode.headers, rest, true
		case "wasreqt":
			return r.filter.decode.first, rest, true
		case "wasrespt":
			return r.filter.encode.first, rest, true
		case "reqt":
			return r.filter.decode.trailers, rest, true
		case "resp":
			return r.filter.encode.headers, rest, true
		case "respt":
			return r.filter.encode.trailers, rest, true
		}
		return nil, "", false
	}
	switch name {
	case "set", "add", "del", "get", "getraw", "values", "range", "count", "all",
		"hoard", "pseudo", "setpath", "sethost", "setmethod":
		return r.current, name, true
	}
	return nil, "", false
}

func (r *run) doHeader(h api.HeaderMap, name string, a *action) {
	if h == nil {
		r.record("%s: no such map", a.name)
		return
	}
	switch name {
	case "set":
		h.Set(a.arg(0), a.arg(1))
	case "add":
		h.Add(a.arg(0), a.arg(1))
	case "del":
		h.Del(a.arg(0))
	case "get":
		value, ok := h.Get(a.arg(0))
		r.record("get %s=%q %v", a.arg(0), value, ok)
	case "getraw":
		// The string lies in the proxy's memory. Recorded twice, with a
		// collection between, so that a wrong lifetime shows.
		value := h.GetRaw(a.arg(0))
		before := strings.Clone(value)
		collect()
		r.record("getraw %s=%q same=%v", a.arg(0), before, before == value)
	case "values":
		r.record("values %s=%q", a.arg(0), h.Values(a.arg(0)))
	case "hoard": // keeps them for ever
		h.Range(func(key, value string) bool {
			probe.HoardString(key)
			probe.HoardString(value)
			return true
		})
	case "range":
		r.record("range %s", sorted(h.Range))
	case "all":
		r.record("all %s", sorted(h.RangeWithCopy))
	case "count":
		n := 0
		for _, values := range h.GetAllHeaders() {
			n += len(values)
		}
		r.record("count %d", n)
	case "pseudo":
		switch h := h.(type) {
		case api.RequestHeaderMap:
			r.record("pseudo %s %s %s %s", h.Method(), h.Scheme(), h.Host(), h.Path())
		case api.ResponseHeaderMap:
			status, ok := h.Status()
			r.record("pseudo %d %v", status, ok)
		}
	case "setpath":
		h.(api.RequestHeaderMap).SetPath(a.arg(0))
	case "sethost":
		h.(api.RequestHeaderMap).SetHost(a.arg(0))
	case "setmethod":
		h.(api.RequestHeaderMap).SetMethod(a.arg(0))
	default:
		panic("script: unknown action " + a.name)
	}
}

// sorted lists the pairs that a Range function visits, in an order of its own,
// for Go's maps have none.
func sorted(each func(func(key, value string) bool)) string {
	var lines []string
	each(func(key, value string) bool {
		lines = append(lines, fmt.Sprintf("%s=%q", key, value))
		return true
	})
	sort.Strings(lines)
	return strings.Join(lines, " ")
}

func (r *run) doBuffer(b api.BufferInstance, name string, a *action) {
	switch name {
	case "b.keep":
		r.side.kept = b
	case "b.set":
		_ = b.SetString(a.arg(0))
	case "b.setbytes":
		_ = b.Set([]byte(a.arg(0)))
	case "b.append":
		_ = b.AppendString(a.arg(0))
	case "b.appendbytes":
		_ = b.Append([]byte(a.arg(0)))
	case "b.prepend":
		_ = b.PrependString(a.arg(0))
	case "b.prependbytes":
		_ = b.Prepend([]byte(a.arg(0)))
	case "b.repeat": // append the text n times
		_ = b.AppendString(strings.Repeat(a.arg(0), a.num(1)))
	case "b.writebyte":
		_ = b.WriteByte(a.arg(0)[0])
	case "b.write16":
		_ = b.WriteUint16(uint16(a.num(0)))
	case "b.write32":
		_ = b.WriteUint32(uint32(a.num(0)))
	case "b.write64":
		_ = b.WriteUint64(uint64(a.num(0)))
	case "b.drain":
		b.Drain(a.num(0))
	case "b.reset":
		b.Reset()
	case "b.upper":
		if b.Len() > 0 {
			_ = b.Set(bytes.ToUpper(b.Bytes()))
		}
	case "b.hoard": // keeps it for ever
		probe.HoardBytes(b.Bytes())
		probe.HoardString(b.String())
	case "b.len":
		r.record("len %d", b.Len())
	case "b.string":
		r.record("string %q", b.String())
	case "b.sha256":
		r.record("sha256 %x", sha256.Sum256(b.Bytes()))
	default:
		panic("script: unknown action " + a.name)
	}
}

// collect forces a garbage collection and then fills memory, so that whatever the
// proxy should have copied is overwritten now.
func collect() {
	runtime.GC()
	var keep [][]byte
	for i := 0; i < 256; i++ {
		keep = append(keep, bytes.Repeat([]byte{0xdb}, 64<<(i%8)))
	}
	runtime.KeepAlive(keep)
}

func apiLog(level api.LogType, text string) {
	switch level {
	case api.Trace:
		api.LogTrace(text)
	case api.Debug:
		api.LogDebug(text)
	case api.Info:
		api.LogInfo(text)
	case api.Warn:
		api.LogWarn(text)
	case api.Error:
		api.LogError(text)
	case api.Critical:
		api.LogCritical(text)
	}
}

// streamInfo reads one value, or all of them as "name=value" separated by spaces.
func streamInfo(info api.StreamInfo, name string) string {
	optional := func(get func() (string, bool)) func() string {
		return func() string {
			if value, ok := get(); ok {
				return value
			}
			return "(none)"
		}
	}
	fields := []struct {
		name string
		get  func() string
	}{
		{"route", info.GetRouteName},
		{"filter_chain", info.FilterChainName},
		{"protocol", optional(info.Protocol)},
		{"code", func() string {
			if code, ok := info.ResponseCode(); ok {
				return fmt.Sprint(code)
			}
			return "(none)"
		}},
		{"details", optional(info.ResponseCodeDetails)},
		{"attempts", func() string { return fmt.Sprint(info.AttemptCount()) }},
		{"downstream_local", info.DownstreamLocalAddress},
		{"downstream_remote", info.DownstreamRemoteAddress},
		{"upstream_local", optional(info.UpstreamLocalAddress)},
		{"upstream_remote", optional(info.UpstreamRemoteAddress)},
		{"cluster", optional(info.UpstreamClusterName)},
		{"virtual_cluster", optional(info.VirtualClusterName)},
		{"worker", func() string { return fmt.Sprint(info.WorkerID()) }},
	}
	var all []string
	for _, field := range fields {
		if name == field.name {
			return field.name + "=" + field.get()
		}
		if name == "" {
			all = append(all, field.name+"="+field.get())
		}
	}
	return strings.Join(all, " ")
}
