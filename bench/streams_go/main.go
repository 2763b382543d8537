// Program streams_go does with Go's readers and writers what bench/native/streams.c does with Sluice's: one case per
// run, under the same names, with the same meaning of an operation, which is written down there.
// ./dev bench streams lets the two take turns.
//
//	streams_go CASE COUNT    prints "ns_wall ns_cpu ops allocations", of this process, user and system
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	body  = 1 << 20
	piece = 16 * 1024
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "streams_go:", err)
		os.Exit(1)
	}
}

// ---- Calls ----

type oneByte struct{}

//go:noinline
func (oneByte) Read(p []byte) (int, error) { return 1, nil }

//go:noinline
func someReader() io.Reader { return oneByte{} }

func ifaceCall(n int) {
	r := someReader()
	var p [1]byte
	for ; n > 0; n-- {
		_, err := r.Read(p[:])
		check(err)
	}
}

type atEnd struct{}

func (atEnd) Read(p []byte) (int, error) { return 0, io.EOF }

// devours is a writer without ReadFrom, which io.Discard has.
type devours struct{ bytes int }

func (d *devours) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

func streamCopyDispatch(n int) {
	w := &devours{}
	for ; n > 0; n-- {
		_, err := io.Copy(w, atEnd{})
		check(err)
	}
}

// ---- Bodies ----

// hijacked observes what is read, in the caller's own memory.
type hijacked struct {
	r    io.Reader
	hook func([]byte)
}

func (h *hijacked) Read(p []byte) (n int, err error) {
	n, err = h.r.Read(p)
	if n > 0 {
		h.hook(p[:n])
	}
	return n, err
}

func pair() (net.Conn, net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(file)
		check(err)
		check(file.Close())
	}
	return ends[0], ends[1]
}

func bodies(n int, pass func(r io.Reader)) {
	near, far := pair()
	left := n * body
	go func() {
		bytes := make([]byte, piece)
		for ; left > 0; left -= piece {
			_, err := far.Write(bytes)
			check(err)
		}
	}()
	for ; n > 0; n-- {
		pass(io.LimitReader(near, body))
	}
	check(near.Close())
	check(far.Close())
}

// One buffer for all, as a server's pool would have it.
var buffer = make([]byte, piece)

func drain(r io.Reader) {
	n, err := io.CopyBuffer(&devours{}, r, buffer)
	check(err)
	if n != body {
		check(io.ErrUnexpectedEOF)
	}
}

var seen int

func see(p []byte) { seen += len(p) }

func bodyPlain(n int) { bodies(n, drain) }
func bodyHook(n int) {
	bodies(n, func(r io.Reader) { drain(&hijacked{r, see}) })
}
func bodyReadAll(n int) {
	bodies(n, func(r io.Reader) {
		all, err := io.ReadAll(r)
		check(err)
		see(all)
		_, err = (&devours{}).Write(all)
		check(err)
	})
}

var cases = map[string]func(n int){
	"iface_call":           ifaceCall,
	"stream_copy_dispatch": streamCopyDispatch,
	"body_plain":           bodyPlain,
	"body_hook":            bodyHook,
	"body_readall":         bodyReadAll,
}

func cpuNS() int64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) == 3 {
		count, err := strconv.Atoi(os.Args[2])
		if run, ok := cases[os.Args[1]]; ok && err == nil && count > 0 {
			run(count/16 + 1)
			before, wall, cpu := mallocs(), time.Now(), cpuNS()
			run(count)
			spent, used := time.Since(wall), cpuNS()-cpu
			fmt.Println(spent.Nanoseconds(), used, count, mallocs()-before)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: streams_go CASE COUNT")
	os.Exit(2)
}
