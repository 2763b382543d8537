// Package apikey lets in who has a key. Keys are in a file that is read again
// when it changes, so a key comes and goes without a restart.
//
//	header: x-api-key          where the client puts its key
//	keys_file: /etc/keys       lines of "NAME SHA-256 of the key, in hex"; # begins a comment
//	reload_interval: 1s        how often the file is looked at
//	client_header: x-client    tells the origin the key's name
//
// The file has no keys, only their hashes, so who reads it gains nothing, and
// to look a key up takes the same time however much of it is right.
package apikey

import (
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/examples/filters/settings"
)

type config struct {
	Header         string            `json:"header"`
	KeysFile       string            `json:"keys_file"`
	ReloadInterval settings.Duration `json:"reload_interval"`
	ClientHeader   string            `json:"client_header"`

	store *store
}

// Parser makes a *config of plugin_config.
type Parser struct{}

// Parse refuses a configuration whose keys cannot be read: an empty store
// would lock everybody out.
func (Parser) Parse(plugin *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	c := &config{
		Header:         "x-api-key",
		ReloadInterval: settings.Duration(time.Second),
		ClientHeader:   "x-client",
	}
	if err := settings.Read(plugin, c); err != nil {
		return nil, err
	}
	if c.KeysFile == "" {
		return nil, errors.New("keys_file is missing: the file that has the names and hashes of the keys")
	}
	var err error
	c.store, err = openStore(c.KeysFile, time.Duration(c.ReloadInterval))
	return c, err
}

// Merge takes a route's own configuration whole: its keys are other keys.
func (Parser) Merge(_ interface{}, child interface{}) interface{} {
	return child
}

// New makes the filter of one request.
func New(c interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	return &filter{callbacks: callbacks, config: c.(*config)}
}

type filter struct {
	api.PassThroughStreamFilter

	callbacks api.FilterCallbackHandler
	config    *config
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, endStream bool) api.StatusType {
	key, _ := header.Get(f.config.Header)
	// Whoever the client says it is: the origin hears it from us or not at all.
	header.Del(f.config.ClientHeader)
	header.Del(f.config.Header)
	if name, known := f.config.store.client(sha256.Sum256([]byte(strings.TrimSpace(key)))); known {
		header.Set(f.config.ClientHeader, name)
		return api.Continue
	}
	details := "apikey_unknown"
	if key == "" {
		details = "apikey_missing"
	}
	f.callbacks.DecoderFilterCallbacks().SendLocalReply(401, "a valid key is needed in "+f.config.Header+"\n",
		map[string][]string{"www-authenticate": {`ApiKey header="` + f.config.Header + `"`}}, 16, details)
	return api.LocalReply
}
