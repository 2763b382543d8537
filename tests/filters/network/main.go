// Command network is the library of those test plugins that are no HTTP filters:
// the network filter "script" (script.go) and "proxy" (proxy.go), and a cluster
// specifier (cluster.go). It has the HTTP plugin "report" as well, so that one file
// has all three kinds.
package main

import (
	"sync"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/network/source/go/pkg/network"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/tests/filters/internal/probe"
)

func init() {
	network.RegisterNetworkFilterConfigParser(parser{})
	network.RegisterNetworkFilterConfigFactory("script", factory{newScript})
	network.RegisterNetworkFilterConfigFactory("proxy", factory{newProxy})
	probe.RegisterReport("network")
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
	probe.Count("parsed", 1)
	return configOf(any)
}

type factory struct {
	create func(config, api.ConnectionCallback) api.DownstreamFilter
}

func (f factory) CreateFactoryFromConfig(c interface{}) network.FilterFactory {
	return &filterFactory{f, c.(config)}
}

type filterFactory struct {
	factory
	config config
}

func (f *filterFactory) CreateFilter(cb api.ConnectionCallback) api.DownstreamFilter {
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
