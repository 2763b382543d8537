package main

import (
	"errors"
	"fmt"
	"strings"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// config is what plugin_config says; an empty string means that it says nothing.
// It is shared by all requests and never changes after it was parsed.
type config struct {
	greeting      string
	blockedPrefix string
}

type parser struct{}

// Parse turns plugin_config into a *config. An error rejects the proxy's whole
// configuration.
func (*parser) Parse(any *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	conf := &config{}
	if any.GetTypeUrl() == "" { // plugin_config was left out
		return conf, nil
	}
	typed := &xds.TypedStruct{}
	if err := any.UnmarshalTo(typed); err != nil {
		return nil, fmt.Errorf("plugin_config: %w", err)
	}
	if err := conf.fill(typed.GetValue().GetFields()); err != nil {
		return nil, fmt.Errorf("plugin_config: %w", err)
	}
	return conf, nil
}

// Merge makes the configuration of a route that has its own for this filter:
// what the child does not say is taken from the parent.
func (*parser) Merge(parent interface{}, child interface{}) interface{} {
	merged := *parent.(*config)
	own := child.(*config)
	if own.greeting != "" {
		merged.greeting = own.greeting
	}
	if own.blockedPrefix != "" {
		merged.blockedPrefix = own.blockedPrefix
	}
	return &merged
}

func (c *config) fill(fields map[string]*structpb.Value) error {
	for name, value := range fields {
		text, ok := value.GetKind().(*structpb.Value_StringValue)
		if !ok {
			return fmt.Errorf("%s must be a string", name)
		}
		switch name {
		case "greeting":
			c.greeting = text.StringValue
		case "blocked_prefix":
			if !strings.HasPrefix(text.StringValue, "/") {
				return errors.New("blocked_prefix must begin with /")
			}
			c.blockedPrefix = text.StringValue
		default:
			return fmt.Errorf("unknown field %s", name)
		}
	}
	return nil
}
