//go:build sdk131 || sdk132

package main

import "github.com/envoyproxy/envoy/contrib/golang/common/go/api"

// What SDK 1.33 added.

func refreshRoute(api.FilterCallbackHandler) { panic("not in this SDK") }

func addData(api.FilterProcessCallbacks, []byte, bool) { panic("not in this SDK") }
