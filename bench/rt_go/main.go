// Program rt_go does with Go's runtime what bench/native/rt_main.c does with Sluice's: one case per
// run, under the same names, with the same meaning of an operation, which is written down there. A P
// is one of GOMAXPROCS. ./dev bench rt lets the two take turns.
//
//	rt_go CASE COUNT     prints "ns_wall ns_cpu ops", of this process, user and system;
//	                     parked adds "rss_bytes pte_bytes", the growth while it ran
//	rt_go serve N        a server for bench_rt_load: echoes, while N goroutines per P are always
//	                     inside a cgo call of a second; prints its port
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type benchCase struct {
	ps     int
	run    func(n int)
	isCold bool // measured the first time, and with the memory that it took
}

var cases = map[string]benchCase{
	"switch":             {1, runSwitch, false},
	"spawn":              {1, runSpawn, false},
	"work_1p":            {1, runWork, false},
	"work_2p":            {2, runWork, false},
	"parked":             {1, runParked, true},
	"chan_same_p":        {1, runRoundTrip, false},
	"chan_cross_p":       {2, runRoundTrip, false},
	"chan_pinned_p":      {2, runRoundTripOnThreads, false},
	"chan_unbuffered":    {1, runUnbuffered, false},
	"chan_buffered":      {1, runBuffered, false},
	"chan_buffered_2p":   {2, runBuffered, false},
	"select4":            {1, runSelect4, false},
	"mutex":              {2, runMutex, false},
	"mutex_yield":        {2, runMutexYield, false},
	"timer":              {1, runTimer, false},
	"foreign_call":       {1, runForeignCall, false},
	"foreign_call_quick": {1, runForeignCall, false},
	"callback":           {1, runCallback, false},
	"callback_wake":      {1, runCallbackWake, false},
	"echo64":             {2, runEcho64, false},
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rt_go:", err)
		os.Exit(1)
	}
}

// share splits n over parts so that the shares add up to n.
func share(n, parts, index int) int {
	if index < n%parts {
		return n/parts + 1
	}
	return n / parts
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// memory returns resident bytes and those of page tables.
func memory() (rss, pageTables int64) {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if kb, found := strings.CutPrefix(line, "VmRSS:"); found {
			fmt.Sscan(kb, &rss)
		}
		if kb, found := strings.CutPrefix(line, "VmPTE:"); found {
			fmt.Sscan(kb, &pageTables)
		}
	}
	return rss * 1024, pageTables * 1024
}

func measure(what benchCase, n int) {
	runtime.GOMAXPROCS(what.ps)
	if !what.isCold {
		what.run(n/16 + 1)
	}
	rssBefore, tablesBefore := memory()
	cpu, wall := cpuTime(), time.Now()
	what.run(n)
	fmt.Print(time.Since(wall).Nanoseconds(), " ", (cpuTime() - cpu).Nanoseconds(), " ", n)
	if what.isCold {
		rss, tables := memory()
		fmt.Print(" ", rss-rssBefore, " ", tables-tablesBefore)
	}
	fmt.Println()
}

func main() {
	if len(os.Args) == 3 {
		what, found := cases[os.Args[1]]
		n, err := strconv.Atoi(os.Args[2])
		if os.Args[1] == "serve" && err == nil {
			runtime.GOMAXPROCS(2)
			serveBlocked(n)
			return
		}
		if found && err == nil && n > 0 {
			measure(what, n)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: rt_go CASE COUNT | rt_go serve BLOCKED-CALLS-PER-P")
	os.Exit(2)
}
