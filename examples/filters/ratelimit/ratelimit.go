// Package ratelimit gives every client a token bucket: so many requests per
// second, and so many at once after a pause. Who has none left gets 429 and is
// told when to come again.
//
//	rate: 10                  tokens per second
//	burst: 20                 the most that a bucket holds
//	key_header: x-client      whose value tells clients apart; without it, their address
//	max_clients: 100000       how many buckets are kept
package ratelimit

import (
	"errors"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/examples/filters/settings"
)

type config struct {
	Rate       settings.Number `json:"rate"`
	Burst      settings.Number `json:"burst"`
	KeyHeader  string          `json:"key_header"`
	MaxClients int             `json:"max_clients"`

	buckets *buckets
}

// Parser makes a *config of plugin_config.
type Parser struct{}

// Parse makes the buckets too: they are as old as the configuration.
func (Parser) Parse(plugin *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	c := &config{MaxClients: 100000}
	if err := settings.Read(plugin, c); err != nil {
		return nil, err
	}
	if c.Rate <= 0 {
		return nil, errors.New("rate must be more than 0 requests per second")
	}
	if c.Burst == 0 {
		c.Burst = max(1, c.Rate)
	}
	if c.Burst < 1 {
		return nil, errors.New("burst must be 1 at least, or no request ever passes")
	}
	if c.MaxClients < 1 {
		return nil, errors.New("max_clients must be 1 at least")
	}
	c.buckets = newBuckets(float64(c.Rate), float64(c.Burst), c.MaxClients)
	return c, nil
}

// Merge takes a route's own limit, with buckets of its own, instead of the
// filter's.
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

func (f *filter) client(header api.RequestHeaderMap) string {
	if f.config.KeyHeader != "" {
		key, _ := header.Get(f.config.KeyHeader)
		return key // without one: all who have none share a bucket
	}
	address := f.callbacks.StreamInfo().DownstreamRemoteAddress()
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func (f *filter) DecodeHeaders(header api.RequestHeaderMap, endStream bool) api.StatusType {
	wait := f.config.buckets.take(f.client(header), time.Now())
	if wait == 0 {
		return api.Continue
	}
	seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
	f.callbacks.DecoderFilterCallbacks().SendLocalReply(429, "too many requests; come again in "+seconds+" s\n",
		map[string][]string{"retry-after": {seconds}}, 8, "ratelimit_exceeded")
	return api.LocalReply
}
