// Package jsonbody rewrites JSON bodies, of requests and of responses:
//
//	request:
//	  set: { user.plan: free, stream: false }   values by path; objects on the way are made
//	  default: { max_tokens: 1000 }             the same, where there is nothing yet
//	  rename: { prompt: input.text }
//	  remove: [ debug, user.password ]
//	response: ...
//
// In that order: rename, remove, default, set. All other values stay as they
// are, numbers digit by digit. (A fraction in the rules comes out as a string
// if they are written in YAML: the proxies hand it on as one.) A request that claims to be JSON and is not is
// answered 400; such a response passes as it is.
//
// The message is held back until it is complete, so the proxy's buffer limit
// (per_connection_buffer_limit_bytes) bounds it: 413 for a request.
package jsonbody

import (
	"errors"
	"mime"
	"strconv"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/examples/filters/settings"
)

type config struct {
	Request  *rewrite `json:"request"`
	Response *rewrite `json:"response"`
}

// Parser makes a *config of plugin_config.
type Parser struct{}

// Parse refuses paths that cannot be.
func (Parser) Parse(plugin *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	c := &config{}
	if err := settings.Read(plugin, c); err != nil {
		return nil, err
	}
	if c.Request == nil && c.Response == nil {
		return nil, errors.New("neither request nor response says what to rewrite")
	}
	return c, errors.Join(c.Request.prepare("request"), c.Response.prepare("response"))
}

// Merge takes a route's own rewriting of a direction instead of the filter's.
func (Parser) Merge(parent interface{}, child interface{}) interface{} {
	merged := *parent.(*config)
	if own := child.(*config); own.Request != nil {
		merged.Request = own.Request
	}
	if own := child.(*config); own.Response != nil {
		merged.Response = own.Response
	}
	return &merged
}

// New makes the filter of one request.
func New(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	return &filter{callbacks: callbacks, config: c.(*config)}
}

type filter struct {
	api.PassThroughStreamFilter

	callbacks api.FilterCallbackHandler
	config    *config

	request  api.RequestHeaderMap // held while the body is gathered
	response api.ResponseHeaderMap
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, endStream bool) api.StatusType {
	if f.config.Request == nil || endStream || !isJSON(header) {
		return api.Continue
	}
	f.request = header
	return api.StopAndBuffer
}

func (f *filter) DecodeData(buffer api.BufferInstance, endStream bool) api.StatusType {
	if f.request == nil {
		return api.Continue
	}
	body, err := f.config.Request.apply(buffer.Bytes())
	if err != nil {
		f.callbacks.DecoderFilterCallbacks().SendLocalReply(400, "the body is not JSON: "+err.Error()+"\n",
			nil, 3, "jsonbody_invalid")
		return api.LocalReply
	}
	replace(f.request, buffer, body)
	return api.Continue
}

func (f *filter) EncodeHeaders(header api.ResponseHeaderMap, endStream bool) api.StatusType {
	if f.config.Response == nil || endStream || !isJSON(header) {
		return api.Continue
	}
	f.response = header
	return api.StopAndBuffer
}

func (f *filter) EncodeData(buffer api.BufferInstance, endStream bool) api.StatusType {
	if f.response == nil {
		return api.Continue
	}
	body, err := f.config.Response.apply(buffer.Bytes())
	if err != nil {
		f.callbacks.Log(api.Warn, "jsonbody: a response that is not JSON passes as it is: "+err.Error())
		return api.Continue
	}
	replace(f.response, buffer, body)
	return api.Continue
}

// isJSON tells whether a body can be read as it is: one that is compressed
// cannot.
func isJSON(header api.HeaderMap) bool {
	if coding, there := header.Get("content-encoding"); there && coding != "identity" {
		return false
	}
	value, _ := header.Get("content-type")
	kind, _, err := mime.ParseMediaType(value)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// replace puts the body in, and the length where there was one. The headers
// are still held, so what is changed in them now goes out.
func replace(header api.HeaderMap, buffer api.BufferInstance, body []byte) {
	_ = buffer.Set(body)
	if _, there := header.Get("content-length"); there {
		header.Set("content-length", strconv.Itoa(len(body)))
	}
	header.Del("content-md5")
	header.Del("digest")
	header.Del("content-digest")
	header.Del("etag")
}
