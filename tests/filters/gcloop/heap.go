package main

import "C"

import (
	"bytes"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
)

// SluiceHeapProfile is what docs/memory.md shows.
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

var (
	heldLock sync.Mutex
	held     [][]byte
)

// hold keeps as many mebibytes as the path says behind "hold=", for ever, in one
// piece: a sample of it is as good as certain.
//
//go:noinline
func hold(path string) string {
	_, number, _ := strings.Cut(path, "hold=")
	mebibytes, err := strconv.Atoi(number)
	if err != nil {
		return err.Error()
	}
	heldLock.Lock()
	defer heldLock.Unlock()
	held = append(held, bytes.Repeat([]byte{1}, mebibytes<<20))
	return strconv.Itoa(mebibytes) + " MiB held"
}
