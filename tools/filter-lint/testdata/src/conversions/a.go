package conversions

import (
	"reflect"
	"unsafe"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
)

func shares(buffer api.BufferInstance, s string) {
	b := buffer.Bytes()
	_ = unsafe.String(&b[0], len(b))                // want `unsafe.String shares bytes`
	_ = unsafe.Slice(unsafe.StringData(s), len(s))  // want `unsafe.StringData shares bytes`
	_ = *(*string)(unsafe.Pointer(&b))              // want `this conversion shares bytes`
	_ = *(*[]byte)(unsafe.Pointer(&s))              // want `this conversion shares bytes`
	_ = (*reflect.StringHeader)(unsafe.Pointer(&s)) // want `reflect.StringHeader shares bytes`
}

func copies(buffer api.BufferInstance, s string) {
	b := buffer.Bytes()
	_ = string(b)
	_ = []byte(s)
	n := 1
	_ = *(*uint)(unsafe.Pointer(&n))
	_ = unsafe.Sizeof(n)
}
