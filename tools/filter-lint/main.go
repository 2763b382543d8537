// Command filter-lint looks for what makes filters for Envoy's Golang SDK
// fail now and then, and compilers do not see:
//
//	recoverpanic  a goroutine that uses a request and has no RecoverPanic: once the
//	              client leaves, the SDK panics in it, and the process ends
//	rawstring     a string of GetRaw that is kept: its bytes are the proxy's
//	unsafebytes   a string made of bytes without copying them, or bytes of a string
//
// It is used as go vet is:
//
//	filter-lint ./...
//	go vet -vettool=$(which filter-lint) ./...
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"

	"sluice.dev/tools/filter-lint/rawstring"
	"sluice.dev/tools/filter-lint/recoverpanic"
	"sluice.dev/tools/filter-lint/unsafebytes"
)

func main() {
	multichecker.Main(recoverpanic.Analyzer, rawstring.Analyzer, unsafebytes.Analyzer)
}
