// Package fatal has what no recover can catch.
package fatal

import (
	"os"
	"runtime/debug"
	"syscall"
	"unsafe"
)

// Die is the end of the process: exit, maps, fault, stack, loop, goroutine, kill.
func Die(how string) {
	switch how {
	case "exit":
		os.Exit(3)
	case "maps": // fatal error: concurrent map writes
		shared := map[int]int{}
		for i := 0; i < 8; i++ {
			go func() {
				for n := 0; ; n++ {
					shared[n%64] = n
				}
			}()
		}
		select {}
	case "fault": // an address that is nobody's: fatal error: fault
		address := uintptr(0xdead0000)
		*(*int)(unsafe.Pointer(address)) = 1
	case "stack": // fatal error: stack overflow
		debug.SetMaxStack(1 << 20)
		deeper(1)
	case "loop":
		for spinning := true; spinning; {
		}
	case "goroutine": // a panic where nobody recovers
		go panic("lost")
		select {}
	case "kill":
		syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}

//go:noinline
func deeper(n int) int {
	var room [256]byte
	room[n%256] = byte(n)
	return deeper(n+1) + int(room[0])
}
