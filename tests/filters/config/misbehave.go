package main

/*
#include <signal.h>
#include <stddef.h>

// A crash in C code on the thread that calls.
static void c_crash(void) { *(volatile int *)8 = 1; }
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
	"google.golang.org/protobuf/types/known/anypb"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("misbehave", newMisbehaving, &misbehaving{})
	http.RegisterHttpFilterFactoryAndConfigParser("environ", newEnvironFilter, http.NullParser)
	misbehave(os.Getenv("SLUICE_TEST_INIT"))
	if path := os.Getenv("SLUICE_TEST_LOCK"); path != "" {
		lock(path)
	}
}

// lock takes the file for as long as the process lives, as a store of one writer does.
func lock(path string) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		panic("another process has the lock: " + err.Error())
	}
	locked = file
	fmt.Fprintln(file, "init")
}

var locked *os.File // closed, it would be free

// --- plugin "misbehave" ---

// misbehave does what a broken library does: the word says where its author was careless.
func misbehave(how string) {
	switch how {
	case "panic":
		panic("careless: " + how)
	case "hang":
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, "careless: cannot reach the database")
		os.Exit(3)
	case "crash":
		C.c_crash()
	case "loud":
		line := strings.Repeat("x", 1023) + "\n"
		for i := 0; i < 4096; i++ {
			os.Stderr.WriteString(line)
		}
		panic("careless: " + how)
	}
}

// misbehaving is the configuration: for "parse", "merge", "factory", "request" and
// "goroutine" how they go wrong. With "only_probe" they do in a probe only, with "never_probe"
// elsewhere only, and with "if_file" only while that file is there.
type misbehaving struct{ fields map[string]interface{} }

func (m *misbehaving) behaves() bool {
	probing := os.Getenv("SLUICE_PROBE") != ""
	if m.fields["only_probe"] == true && !probing || m.fields["never_probe"] == true && probing {
		return true
	}
	if path, ok := m.fields["if_file"].(string); ok {
		_, err := os.Stat(path)
		return err != nil
	}
	return false
}

func (m *misbehaving) act(where string) {
	if m.behaves() {
		return
	}
	how, _ := m.fields[where].(string)
	misbehave(how)
}

func (*misbehaving) Parse(any *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	fields, err := structOf(any)
	if err != nil {
		return nil, err
	}
	conf := &misbehaving{fields}
	if conf.fields["parse"] == "error" && !conf.behaves() {
		return nil, errors.New("careless: not like this")
	}
	conf.act("parse")
	return conf, nil
}

func (*misbehaving) Merge(parent, child interface{}) interface{} {
	child.(*misbehaving).act("merge")
	return child
}

func newMisbehaving(config interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	config.(*misbehaving).act("factory")
	// What factories may ask is answered in a probe as well.
	info := callbacks.StreamInfo()
	info.DownstreamRemoteAddress()
	info.GetRouteName()
	info.Protocol()
	info.DynamicMetadata().Set("misbehave", "key", "value")
	info.DynamicMetadata().Get("misbehave")
	info.FilterState().GetString("key")
	if method, err := callbacks.GetProperty("request.method"); err != nil || method == "" {
		panic(fmt.Sprint("no request: ", err))
	}
	callbacks.GetProperty("xds.route_name")
	return &misbehavingFilter{config: config.(*misbehaving)}
}

type misbehavingFilter struct {
	api.PassThroughStreamFilter
	config *misbehaving
}

// DecodeHeaders goes wrong in the callback for "request", in a goroutine that
// nobody recovers for "goroutine", for those that ask for it in a header.
func (f *misbehavingFilter) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	if _, asked := header.Get("x-misbehave"); !asked {
		return api.Continue
	}
	f.config.act("request")
	if f.config.fields["goroutine"] != nil {
		go f.config.act("goroutine")
		return api.Running
	}
	return api.Continue
}

// --- plugin "environ" ---

type environFilter struct{ api.PassThroughStreamFilter }

func newEnvironFilter(_ interface{}, _ api.FilterCallbackHandler) api.StreamFilter {
	return &environFilter{}
}

// EncodeHeaders tells what the library's Go runtime was started with.
func (*environFilter) EncodeHeaders(header api.ResponseHeaderMap, _ bool) api.StatusType {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	header.Set("x-gogc", fmt.Sprint(percent))
	header.Set("x-memory-limit", fmt.Sprint(debug.SetMemoryLimit(-1)))
	header.Set("x-env-gogc", os.Getenv("GOGC"))
	header.Set("x-env-godebug", os.Getenv("GODEBUG"))
	header.Set("x-env-path", os.Getenv("PATH"))
	header.Set("x-env-probe", os.Getenv("SLUICE_PROBE"))
	return api.Continue
}
