package main

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"

	"sluice.dev/tools/filter-lint/rawstring"
	"sluice.dev/tools/filter-lint/recoverpanic"
	"sluice.dev/tools/filter-lint/unsafebytes"
)

// What each analyzer has to say, and where, stands in the files under testdata.

func TestRecoverPanic(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), recoverpanic.Analyzer, "goroutines")
}

func TestRawString(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), rawstring.Analyzer, "strings_kept")
}

func TestUnsafeBytes(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), unsafebytes.Analyzer, "conversions", "elsewhere")
}
