package main

import (
	"runtime"
	"sync"
)

const (
	spawnBatch = 100
	pairs      = 32
	queue      = 16
	yieldEvery = 4
	rounds     = 128
)

// wg is global so that `go f()` needs no closure, which Go would allocate.
var wg sync.WaitGroup

func runSwitch(n int) {
	wg.Add(2)
	for i := range 2 {
		go func() {
			for range share(n, 2, i) {
				runtime.Gosched()
			}
			wg.Done()
		}()
	}
	wg.Wait()
}

func endAtOnce() { wg.Done() }

func runSpawn(n int) {
	for n > 0 {
		batch := min(n, spawnBatch)
		wg.Add(batch)
		for range batch {
			go endAtOnce()
		}
		wg.Wait()
		n -= batch
	}
}

func compute(x uint64) uint64 {
	for range rounds {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

var results [pairs]uint64

func runWork(n int) {
	wg.Add(2 * pairs)
	for i := range pairs {
		ch := make(chan uint64, queue)
		count := share(n, pairs, i)
		go func() {
			x := uint64(1)
			for j := range count {
				x = compute(x)
				ch <- x
				if j%yieldEvery == 0 {
					runtime.Gosched()
				}
			}
			wg.Done()
		}()
		go func() {
			for range count {
				results[i] += compute(<-ch)
			}
			wg.Done()
		}()
	}
	wg.Wait()
}

var never chan struct{} = make(chan struct{})

func parkForGood() {
	wg.Done()
	<-never
}

func runParked(n int) {
	wg.Add(n)
	for range n {
		go parkForGood()
	}
	wg.Wait()
}
