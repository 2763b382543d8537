package main

import "runtime"

const room = 128

func sendAll(ch chan<- uint64, n int) {
	for i := range n {
		ch <- uint64(i)
	}
	wg.Done()
}

func receiveAll(ch <-chan uint64, n int) {
	for range n {
		<-ch
	}
	wg.Done()
}

func roundTrips(n int, enter func()) {
	there, back := make(chan uint64), make(chan uint64)
	wg.Add(2)
	go func() {
		enter()
		for i := range n {
			there <- uint64(i)
			<-back
		}
		wg.Done()
	}()
	go func() {
		enter()
		for range n {
			back <- <-there
		}
		wg.Done()
	}()
	wg.Wait()
}

func runRoundTrip(n int) { roundTrips(n, func() {}) }

func runRoundTripOnThreads(n int) { roundTrips(n, runtime.LockOSThread) }

func runUnbuffered(n int) { oneWay(make(chan uint64), n) }

func runBuffered(n int) { oneWay(make(chan uint64, room), n) }

func oneWay(ch chan uint64, n int) {
	wg.Add(2)
	go sendAll(ch, n)
	go receiveAll(ch, n)
	wg.Wait()
}

func runSelect4(n int) {
	var ways [4]chan uint64
	wg.Add(len(ways))
	for i := range ways {
		ways[i] = make(chan uint64)
		go sendAll(ways[i], share(n, len(ways), i))
	}
	for range n {
		select {
		case <-ways[0]:
		case <-ways[1]:
		case <-ways[2]:
		case <-ways[3]:
		}
	}
	wg.Wait()
}
