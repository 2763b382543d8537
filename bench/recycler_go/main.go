// recycler_go SECONDS: the program of bench/native/recycler.c with Go's collector and no pool, in the
// same columns; frees is 0, for Go does not say how many buffers were freed. Its clock is the loop's,
// so the collector runs when the heap has grown, and what waits for time to pass (the scavenger's five
// minutes) does not happen.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

const (
	places    = 20
	sizeMin   = 5000000
	sizeRange = 5000000
)

var state uint64 = 20131008

func draw(below uint32) uint32 {
	state = state*6364136223846793005 + 1442695040888963407
	return uint32((state >> 33) % uint64(below))
}

func residentBytes() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return pages * uint64(os.Getpagesize())
}

func main() {
	seconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var held [places][]byte
	residentBefore := residentBytes()
	for second := 0; second < seconds; second++ {
		buffer := make([]byte, sizeMin+draw(sizeRange))
		place := draw(places)
		for at := 0; at < len(buffer); at += 4096 {
			buffer[at] = 1
		}
		held[place] = buffer
		bytes := 0
		for _, b := range held {
			bytes += len(b)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintf(out, "%d,%d,%d,%d,%d,%d,0,%d,0,0\n", m.HeapSys, bytes, m.HeapAlloc, m.HeapIdle,
			m.HeapReleased, second+1, residentBytes()-residentBefore)
	}
}
