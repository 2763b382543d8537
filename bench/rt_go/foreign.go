package main

// #include "foreign.h"
import "C"

import "sync"

func runForeignCall(n int) {
	for range n {
		C.add_one(&C.counter)
	}
}

var host struct {
	sync.Mutex
	value int
}

//export rtTouch
func rtTouch() {
	host.Lock()
	host.value++
	host.Unlock()
}

func runCallback(n int) {
	before := host.value
	for range n {
		C.call_touch()
	}
	if host.value-before != n {
		panic("calls back were lost")
	}
}

var asked, answered = make(chan struct{}, 1), make(chan struct{}, 1)

//export rtWake
func rtWake() { asked <- struct{}{} }

func runCallbackWake(n int) {
	wg.Add(1)
	go func() {
		for range n {
			<-asked
			answered <- struct{}{}
		}
		wg.Done()
	}()
	for range n {
		C.call_wake()
		<-answered
	}
	wg.Wait()
}

func block() {
	for {
		C.sleep_outside()
	}
}
