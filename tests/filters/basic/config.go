package main

import (
	"fmt"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"
)

// phases are the names that scripts go by, in a query and in plugin_config.
var phases = []string{
	"factory", "logstart",
	"dh", "dd", "dt", // decode headers, data, trailers
	"eh", "ed", "et", // encode headers, data, trailers
	"logperiodic", "complete", "log", "destroy",
}

// config is plugin_config: the filter's name in the chain, and scripts that run
// on each request before the request's own ones.
type config struct {
	name    string
	async   bool
	scripts map[string]script
}

type parser struct{}

func (*parser) Parse(any *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	conf := &config{scripts: map[string]script{}}
	if any.GetTypeUrl() == "" {
		return conf, nil
	}
	typed := &xds.TypedStruct{}
	if err := any.UnmarshalTo(typed); err != nil {
		return nil, err
	}
	for key, value := range typed.GetValue().AsMap() {
		switch key {
		case "name":
			conf.name = fmt.Sprint(value)
		case "async":
			conf.async = value == true
		default:
			if !isPhase(key) {
				return nil, fmt.Errorf("plugin_config: unknown field %s", key)
			}
			parsed, err := parseScript(fmt.Sprint(value))
			if err != nil {
				return nil, fmt.Errorf("plugin_config: %s: %w", key, err)
			}
			conf.scripts[key] = parsed
		}
	}
	return conf, nil
}

func (*parser) Merge(_, child interface{}) interface{} {
	return child
}

func isPhase(name string) bool {
	for _, p := range phases {
		if p == name {
			return true
		}
	}
	return false
}
