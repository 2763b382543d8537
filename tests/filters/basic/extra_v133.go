//go:build !sdk131 && !sdk132

package main

import "github.com/envoyproxy/envoy/contrib/golang/common/go/api"

// What SDK 1.33 added.

func refreshRoute(c api.FilterCallbackHandler) { c.RefreshRouteCache() }

func addData(c api.FilterProcessCallbacks, data []byte, streaming bool) { c.AddData(data, streaming) }
