package main

import (
	"runtime"
	"sync"
	"time"
)

const (
	lockers = 8
	timers  = 1000
)

func runLockers(n int, inside func()) {
	var mutex sync.Mutex
	counter := 0
	wg.Add(lockers)
	for i := range lockers {
		go func() {
			for range share(n, lockers, i) {
				mutex.Lock()
				counter++
				if inside != nil {
					inside()
				}
				mutex.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	if counter != n {
		panic("the lock does not exclude")
	}
}

func runMutex(n int) { runLockers(n, nil) }

func runMutexYield(n int) { runLockers(n, runtime.Gosched) }

// runTimer gives its timers functions, as those of Sluice have: no channels.
func runTimer(n int) {
	var all [timers]*time.Timer
	for i := range all {
		all[i] = time.AfterFunc(time.Hour, func() { panic("a timer of an hour fired") })
		all[i].Stop()
	}
	for i := range n {
		at := i % timers
		all[at].Reset(time.Hour + time.Duration(i)*time.Microsecond)
		all[(at+timers/2)%timers].Stop()
	}
	for _, timer := range all {
		timer.Stop()
	}
}
