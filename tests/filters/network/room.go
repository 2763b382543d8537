package main

import (
	"reflect"
	"unsafe"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
)

// withRoom makes it safe to call GetString of a connection's filter state. The SDK takes its own object of three words
// for the connection's of twelve and locks a mutex that it thinks is in there: memory of somebody else. The copy
// has as much behind it.
func withRoom(state api.FilterState) api.FilterState {
	its := reflect.ValueOf(state)
	roomy := new(struct {
		words [3]unsafe.Pointer // what the SDK's object has: the connection, and two functions
		room  [32]uint64
	})
	if its.Elem().Type().Size() != unsafe.Sizeof(roomy.words) {
		panic("the SDK's filterState is another one now")
	}
	roomy.words = *(*[3]unsafe.Pointer)(its.UnsafePointer())
	return reflect.NewAt(its.Elem().Type(), unsafe.Pointer(roomy)).Interface().(api.FilterState)
}
