package main

/*
#include <pthread.h>

static void *nothing(void *arg) { return arg; }

// A thread that Go did not start; an error number.
static int c_thread(void) {
	pthread_t thread;
	int err = pthread_create(&thread, 0, nothing, 0);
	return err ? err : pthread_join(thread, 0);
}
*/
import "C"

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("sandboxed", http.PassThroughFactory, sandboxed{})
}

// --- plugin "sandboxed" ---

// sandboxed does what its configuration says, a StringValue "ACTION ARGUMENT", and refuses it with what came of that.
type sandboxed struct{}

func (sandboxed) Parse(any *anypb.Any, _ api.ConfigCallbackHandler) (interface{}, error) {
	text := &wrapperspb.StringValue{}
	if err := any.UnmarshalTo(text); err != nil {
		return nil, err
	}
	action, argument, _ := strings.Cut(text.Value, " ")
	do, known := sandboxActions[action]
	if !known {
		return nil, errors.New("no such action: " + action)
	}
	result, err := do(argument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return nil, fmt.Errorf("%s: done: %s", action, result)
}

func (sandboxed) Merge(parent, _ interface{}) interface{} { return parent }

var allocated [][]byte

var sandboxActions = map[string]func(string) (string, error){
	"exec": func(path string) (string, error) {
		out, err := exec.Command(path).CombinedOutput()
		return string(out), err
	},
	"http": func(url string) (string, error) {
		reply, err := nethttp.Get(url)
		if err != nil {
			return "", err
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		return string(body), err
	},
	"resolve": func(name string) (string, error) {
		for _, prefersGo := range []bool{true, false} {
			resolver := &net.Resolver{PreferGo: prefersGo}
			if _, err := resolver.LookupHost(context.Background(), name); err != nil {
				return "", err
			}
		}
		return name, nil
	},
	"interfaces": func(string) (string, error) {
		all, err := net.Interfaces()
		return fmt.Sprint(len(all) > 0), err
	},
	"read": func(path string) (string, error) {
		content, err := os.ReadFile(path)
		return string(content), err
	},
	"write": func(path string) (string, error) {
		return "", os.WriteFile(path, []byte("written"), 0o600)
	},
	"signal": func(string) (string, error) {
		return "", syscall.Kill(os.Getppid(), 0)
	},
	"threads": func(string) (string, error) {
		return "", threads(4)
	},
	"profile": func(string) (string, error) {
		return profile()
	},
	"allocate": func(string) (string, error) { // 1 GiB
		for i := 0; i < 16; i++ {
			allocated = append(allocated, make([]byte, 64<<20))
		}
		return fmt.Sprint(len(allocated)), nil
	},
}

// threads has so many goroutines spin on threads of their own, which the collector stops by signals. One thread
// more is C's.
func threads(count int) error {
	var running, done sync.WaitGroup
	var enough atomic.Bool
	running.Add(count)
	done.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			running.Done()
			for !enough.Load() {
			}
		}()
	}
	running.Wait()
	runtime.GC()
	enough.Store(true)
	done.Wait()
	if code := C.c_thread(); code != 0 {
		return syscall.Errno(code)
	}
	return nil
}

// profile counts processor time by SIGPROF until there is some.
func profile() (string, error) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		return "", err
	}
	defer pprof.StopCPUProfile()
	var before, now syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for now = before; now.Utime.Nano()-before.Utime.Nano() < int64(30*time.Millisecond); {
		syscall.Getrusage(syscall.RUSAGE_SELF, &now)
	}
	return "", nil
}
