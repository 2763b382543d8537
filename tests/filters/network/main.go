// Command network is the library of those test plugins that are no HTTP filters:
// the network filters "script" (script.go), "proxy" (proxy.go) and "everything"
// (works.go), and a cluster specifier (cluster.go). It has the HTTP plugin "report" as well, so that one file
// has all three kinds.
package main

import (
	"sync"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/network/source/go/pkg/network"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/tests/filters/internal/probe"
	"sluice.dev/tests/filters/internal/works"
)

var plugins = map[string]func(config, api.ConnectionCallback) api.DownstreamFilter{
	"script":     newScript,
	"proxy":      newProxy,
	"everything": newEverything,
}

func init() {
	works.Call(network.RegisterNetworkFilterConfigParser, parser{})
	works.Call(network.GetNetworkFilterConfigParser)
	for name, create := range plugins {
		works.Call(network.RegisterNetworkFilterConfigFactory, name, factory{create})
		works.Call(network.GetNetworkFilterConfigFactory, name)
	}
	probe.RegisterReport("network")
	works.Register()
	registerClusterSpecifier()
}

func main() {}

// config is the plugin_config, a TypedStruct.
type config map[string]interface{}

func (c config) text(key string) string {
	text, _ := c[key].(string)
	return text
}

func (c config) is(key string) bool {
	yes, _ := c[key].(bool)
	return yes
}

func configOf(any *anypb.Any) config {
	var value xds.TypedStruct
	if err := any.UnmarshalTo(&value); err != nil || value.Value == nil {
		return config{}
	}
	return value.Value.AsMap()
}

type parser struct{}

func (parser) ParseConfig(any *anypb.Any) interface{} {
	works.Told[network.ConfigParser]("called")
	probe.Count("parsed", 1)
	return configOf(any)
}

type factory struct {
	create func(config, api.ConnectionCallback) api.DownstreamFilter
}

func (f factory) CreateFactoryFromConfig(c interface{}) network.FilterFactory {
	works.Told[network.ConfigFactory]("called")
	return &filterFactory{f, c.(config)}
}

type filterFactory struct {
	factory
	config config
}

func (f *filterFactory) CreateFilter(cb api.ConnectionCallback) api.DownstreamFilter {
	works.Told[network.FilterFactory]("called")
	probe.Count("connections", 1)
	return f.create(f.config, cb)
}

// held are the filters that a test wants to live on.
var (
	heldLock sync.Mutex
	held     []interface{}
)

func hold(filter interface{}) {
	heldLock.Lock()
	defer heldLock.Unlock()
	held = append(held, filter)
}
