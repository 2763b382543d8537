package main

import "C"

import (
	"os"
	"runtime"
	"runtime/pprof"
)

// SluiceHeapProfile writes this library's heap profile to fd, which is ours to
// close. Sluice merges it into the profile of the whole process; Envoy does not
// call it.
//
//export SluiceHeapProfile
func SluiceHeapProfile(fd, gc int32) int32 {
	out := os.NewFile(uintptr(fd), "heap profile")
	defer out.Close()
	if gc != 0 {
		runtime.GC()
	}
	if pprof.Lookup("heap").WriteTo(out, 0) != nil {
		return -1
	}
	return 0
}
