// Package bodylog writes the beginning of bodies into the log, without what
// nobody should read there.
//
//	max_bytes: 1024                       of each body
//	fields: [ password, token ]           values of JSON fields and of forms, whatever their case
//	patterns: [ '\b\d{13,16}\b' ]         and what these find (RE2)
//	content_types: [ application/json, text/ ]   beginnings; bodies of others are only counted
//
// A body passes while it is looked at; nothing is held back. There is one line
// per request, when it is over, as JSON.
package bodylog

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/examples/filters/settings"
)

type config struct {
	MaxBytes     int      `json:"max_bytes"`
	Fields       []string `json:"fields"`
	Patterns     []string `json:"patterns"`
	ContentTypes []string `json:"content_types"`

	redactor *redactor
}

// Parser makes a *config of plugin_config.
type Parser struct{}

// Parse compiles the patterns, so that a wrong one is told now.
func (Parser) Parse(plugin *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	c := &config{
		MaxBytes:     1024,
		Fields:       []string{"password", "passwd", "secret", "token", "access_token", "refresh_token", "api_key", "authorization"},
		ContentTypes: []string{"application/json", "application/x-www-form-urlencoded", "text/"},
	}
	if err := settings.Read(plugin, c); err != nil {
		return nil, err
	}
	if c.MaxBytes < 1 || c.MaxBytes > 1<<20 {
		return nil, fmt.Errorf("max_bytes must be from 1 to 1048576, not %d", c.MaxBytes)
	}
	patterns := make([]*regexp.Regexp, 0, len(c.Patterns))
	for _, text := range c.Patterns {
		pattern, err := regexp.Compile(text)
		if err != nil {
			return nil, fmt.Errorf("patterns: %w", err)
		}
		patterns = append(patterns, pattern)
	}
	c.redactor = newRedactor(c.Fields, patterns)
	return c, nil
}

// Merge takes a route's own rules instead of the filter's.
func (Parser) Merge(_ interface{}, child interface{}) interface{} {
	return child
}

// New makes the filter of one request.
func New(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	return &filter{callbacks: callbacks, config: c.(*config)}
}

type filter struct {
	api.PassThroughStreamFilter

	callbacks         api.FilterCallbackHandler
	config            *config
	method, path      string
	request, response sample
}

// sample is the beginning of a body. Bytes of the buffer are copied: the
// buffer is gone when the log is written.
type sample struct {
	kept  []byte
	bytes int
	wants bool
}

func (s *sample) begin(header api.HeaderMap, kinds []string) {
	kind, _ := header.Get("content-type")
	_, coded := header.Get("content-encoding")
	for _, beginning := range kinds {
		s.wants = s.wants || (!coded && strings.HasPrefix(kind, beginning))
	}
}

// margin is kept beyond max_bytes, so that a pattern also finds what the cut
// goes through, if it is not longer than this.
const margin = 256

func (s *sample) add(buffer api.BufferInstance, limit int) {
	s.bytes += buffer.Len()
	if room := limit + margin - len(s.kept); s.wants && room > 0 {
		s.kept = append(s.kept, buffer.Bytes()[:min(room, buffer.Len())]...)
	}
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, endStream bool) api.StatusType {
	f.method, f.path = header.Method(), header.Path()
	f.request.begin(header, f.config.ContentTypes)
	return api.Continue
}

func (f *filter) DecodeData(buffer api.BufferInstance, endStream bool) api.StatusType {
	f.request.add(buffer, f.config.MaxBytes)
	return api.Continue
}

func (f *filter) EncodeHeaders(header api.ResponseHeaderMap, endStream bool) api.StatusType {
	f.response.begin(header, f.config.ContentTypes)
	return api.Continue
}

func (f *filter) EncodeData(buffer api.BufferInstance, endStream bool) api.StatusType {
	f.response.add(buffer, f.config.MaxBytes)
	return api.Continue
}

type loggedBody struct {
	Bytes int    `json:"bytes"`
	Text  string `json:"text,omitempty"`
	Cut   bool   `json:"cut,omitempty"`
}

func (f *filter) logged(s *sample) loggedBody {
	text := f.config.redactor.redact(string(s.kept))
	text = text[:min(len(text), f.config.MaxBytes)]
	return loggedBody{
		Bytes: s.bytes,
		Text:  strings.ToValidUTF8(text, "\uFFFD"),
		Cut:   len(s.kept) > 0 && f.config.MaxBytes < s.bytes,
	}
}

func (f *filter) OnLog(request api.RequestHeaderMap, _ api.RequestTrailerMap, _ api.ResponseHeaderMap, _ api.ResponseTrailerMap) {
	if f.method == "" { // a filter before this one answered, and DecodeHeaders was not called
		f.method, f.path = request.Method(), request.Path()
	}
	line, err := json.Marshal(struct {
		Method   string     `json:"method"`
		Path     string     `json:"path"`
		Request  loggedBody `json:"request"`
		Response loggedBody `json:"response"`
	}{f.method, f.config.redactor.redactQuery(f.path), f.logged(&f.request), f.logged(&f.response)})
	if err == nil {
		api.LogInfo("bodylog " + string(line))
	}
}
