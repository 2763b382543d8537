// Package settings reads plugin_config into a struct, and takes no field that
// the struct does not have: a misspelt one would otherwise do nothing.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	xds "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Read fills *into, by its json tags. plugin_config is a TypedStruct or a
// Struct; one that was left out changes nothing.
func Read(plugin *anypb.Any, into any) error {
	if plugin.GetTypeUrl() == "" {
		return nil
	}
	message, err := plugin.UnmarshalNew()
	if err != nil {
		return fmt.Errorf("plugin_config: %w", err)
	}
	var fields *structpb.Struct
	switch message := message.(type) {
	case *xds.TypedStruct:
		fields = message.GetValue()
	case *structpb.Struct:
		fields = message
	default:
		return fmt.Errorf("plugin_config: want a TypedStruct, got %s", plugin.GetTypeUrl())
	}
	text, err := fields.MarshalJSON()
	if err != nil {
		return fmt.Errorf("plugin_config: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("plugin_config: %w", err)
	}
	return nil
}

// Number is a float64 that may stand there as a string: of YAML's plain
// numbers the proxies hand on integers as numbers, and 0.5 as "0.5".
type Number float64

// UnmarshalJSON takes a number, and a string that is one.
func (n *Number) UnmarshalJSON(text []byte) error {
	number := float64(0)
	if err := json.Unmarshal(bytes.Trim(text, `"`), &number); err != nil {
		return fmt.Errorf("want a number, not %s", text)
	}
	*n = Number(number)
	return nil
}

// Duration is a time.Duration that is written as "250ms".
type Duration time.Duration

// UnmarshalJSON takes what time.ParseDuration takes, more than nothing of it.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return errors.New(`a duration must be a string, as "250ms"`)
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	if parsed <= 0 {
		return fmt.Errorf("a duration must be more than 0, not %s", s)
	}
	*d = Duration(parsed)
	return nil
}
