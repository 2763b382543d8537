// Command go-filter is a small HTTP filter written for Envoy's Golang HTTP
// filter. It is built as a c-shared library and loaded by the proxy, see
// demo.yaml.
//
// For each request it
//
//   - tells the origin who handled it (x-demo-request: <greeting>),
//   - answers 403 by itself for paths under the configured prefix,
//   - marks the response (x-demo-response: <method> <path>),
//   - upper-cases small text bodies.
package main

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
)

// pluginName is what the bootstrap names in plugin_name.
const pluginName = "demo"

// maxBodyBytes bounds the body that the filter holds back to rewrite it. A
// longer one, or one of unknown length, streams through untouched.
const maxBodyBytes = 4096

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser(pluginName, newFilter, &parser{})
}

// main is never called in a c-shared library, but the build needs it.
func main() {}

func newFilter(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	return &filter{callbacks: callbacks, config: c.(*config)}
}

// filter serves one request. The methods that it does not define come from
// PassThroughStreamFilter and let everything through.
type filter struct {
	api.PassThroughStreamFilter

	callbacks api.FilterCallbackHandler
	config    *config

	mark    string // what EncodeHeaders puts into x-demo-response
	rewrite bool   // EncodeData may change the body
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, endStream bool) api.StatusType {
	path := header.Path()
	f.mark = header.Method() + " " + path

	if prefix := f.config.blockedPrefix; prefix != "" && strings.HasPrefix(path, prefix) {
		f.callbacks.Log(api.Info, "blocked "+path)
		// A local reply goes through the response side of the filters, this one
		// included, so x-demo-response is on it as well.
		f.callbacks.DecoderFilterCallbacks().SendLocalReply(
			403, "this path is closed by the demo filter\n",
			map[string][]string{"x-demo-reason": {"blocked"}}, 0, "demo_blocked")
		return api.LocalReply
	}

	greeting := f.config.greeting
	if greeting == "" {
		greeting = "hello"
	}
	header.Set("x-demo-request", greeting)
	return api.Continue
}

func (f *filter) EncodeHeaders(header api.ResponseHeaderMap, endStream bool) api.StatusType {
	header.Set("x-demo-response", f.mark)

	if endStream || !isSmallText(header) {
		return api.Continue
	}
	// The length of the body does not change, so content-length may stay. The
	// body is held back until it is complete: EncodeData sees it in one piece.
	f.rewrite = true
	return api.StopAndBuffer
}

func (f *filter) EncodeData(buffer api.BufferInstance, endStream bool) api.StatusType {
	if f.rewrite {
		_ = buffer.Set(bytes.ToUpper(buffer.Bytes()))
	}
	return api.Continue
}

// isSmallText tells whether the body is worth holding back.
func isSmallText(header api.ResponseHeaderMap) bool {
	kind, _ := header.Get("content-type")
	length, _ := header.Get("content-length")
	n, err := strconv.Atoi(length)
	return err == nil && n <= maxBodyBytes && strings.HasPrefix(kind, "text/plain")
}
