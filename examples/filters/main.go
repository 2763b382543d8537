// Command filters is a shared library with five plugins for Envoy's Golang
// HTTP filter. Each is a package of its own that knows nothing of how it is
// loaded, so a library of yours takes those it wants and names them here.
package main

import (
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"

	"sluice.dev/examples/filters/apikey"
	"sluice.dev/examples/filters/authcall"
	"sluice.dev/examples/filters/bodylog"
	"sluice.dev/examples/filters/jsonbody"
	"sluice.dev/examples/filters/ratelimit"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("apikey", apikey.New, apikey.Parser{})
	http.RegisterHttpFilterFactoryAndConfigParser("ratelimit", ratelimit.New, ratelimit.Parser{})
	http.RegisterHttpFilterFactoryAndConfigParser("jsonbody", jsonbody.New, jsonbody.Parser{})
	http.RegisterHttpFilterFactoryAndConfigParser("authcall", authcall.New, authcall.Parser{})
	http.RegisterHttpFilterFactoryAndConfigParser("bodylog", bodylog.New, bodylog.Parser{})
}

// main is never called in a c-shared library, but the build needs it.
func main() {}
