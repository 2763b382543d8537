// Package authcall asks a server over HTTP whether a request may pass, from a
// goroutine: the proxy's worker serves other requests meanwhile.
//
//	url: http://127.0.0.1:8000/check   asked with GET
//	timeout: 250ms
//	forward: [ authorization, cookie ] headers that the server is shown
//	copy: [ x-auth-user ]              headers of its answer that the origin gets
//	cache_ttl: 5s                      how long a yes is remembered; 0 or none: not at all
//	fail_open: false                   what to do when the server cannot be asked
//
// 2xx lets the request pass. 401, 403, 407 and 429 are handed to the client,
// with the body and www-authenticate; any other status means that the server
// could not say, and is 503.
package authcall

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/examples/filters/settings"
)

type config struct {
	URL      string            `json:"url"`
	Timeout  settings.Duration `json:"timeout"`
	Forward  []string          `json:"forward"`
	Copy     []string          `json:"copy"`
	CacheTTL settings.Duration `json:"cache_ttl"`
	FailOpen bool              `json:"fail_open"`

	server *server
}

// Parser makes a *config of plugin_config.
type Parser struct{}

// Parse does not ask the server: it may come later than the proxy.
func (Parser) Parse(plugin *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	c := &config{Timeout: settings.Duration(250 * time.Millisecond), Forward: []string{"authorization"}}
	if err := settings.Read(plugin, c); err != nil {
		return nil, err
	}
	if c.URL == "" {
		return nil, errors.New("url is missing: who is asked")
	}
	if at, err := url.Parse(c.URL); err != nil || at.Host == "" || (at.Scheme != "http" && at.Scheme != "https") {
		return nil, fmt.Errorf("url: %q is no address of an HTTP server", c.URL)
	}
	c.server = newServer(c)
	return c, nil
}

// Merge takes a route's own server instead of the filter's.
func (Parser) Merge(_ interface{}, child interface{}) interface{} {
	return child
}

// New makes the filter of one request.
func New(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	ctx, cancel := context.WithCancel(context.Background())
	return &filter{callbacks: callbacks, config: c.(*config), ctx: ctx, cancel: cancel}
}

type filter struct {
	api.PassThroughStreamFilter

	callbacks api.FilterCallbackHandler
	config    *config
	ctx       context.Context // over when the request is
	cancel    context.CancelFunc
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, endStream bool) api.StatusType {
	// Read here and not in the goroutine, which need not touch the map then.
	question := question{method: header.Method(), path: header.Path(), host: header.Host()}
	for _, name := range f.config.Forward {
		question.headers = append(question.headers, header.Values(name))
	}
	for _, name := range f.config.Copy {
		header.Del(name) // the client's own word for it
	}
	go f.ask(header, question)
	return api.Running
}

func (f *filter) ask(header api.RequestHeaderMap, question question) {
	callbacks := f.callbacks.DecoderFilterCallbacks()
	// A panic in here would end the process, also the one that says that the
	// client has left. As the request's it costs that request at most.
	defer callbacks.RecoverPanic()
	answer, err := f.config.server.ask(f.ctx, question)
	switch {
	case f.ctx.Err() != nil: // the client has left; there is nobody to tell
	case err != nil && f.config.FailOpen:
		f.callbacks.Log(api.Warn, "authcall: passing unasked: "+err.Error())
		callbacks.Continue(api.Continue)
	case err != nil:
		f.callbacks.Log(api.Warn, "authcall: "+err.Error())
		callbacks.SendLocalReply(503, "it could not be found out whether you may\n", nil, 14, "authcall_failed")
	case answer.denied():
		callbacks.SendLocalReply(answer.status, answer.body, answer.challenge(), answer.grpcStatus(), "authcall_denied")
	default:
		for i, name := range f.config.Copy {
			for _, value := range answer.copied[i] {
				header.Add(name, value)
			}
		}
		callbacks.Continue(api.Continue)
	}
}

func (f *filter) OnDestroy(api.DestroyReason) {
	f.cancel()
}
