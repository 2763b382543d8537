package main

import (
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/envoyproxy/envoy/contrib/golang/router/cluster_specifier/source/go/pkg/api"
	specifier "github.com/envoyproxy/envoy/contrib/golang/router/cluster_specifier/source/go/pkg/cluster_specifier"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice.dev/tests/filters/internal/fatal"
	"sluice.dev/tests/filters/internal/probe"
	"sluice.dev/tests/filters/internal/works"
)

func registerClusterSpecifier() {
	works.Call(specifier.RegisterClusterSpecifierConfigFactory, func(any *anypb.Any) api.ClusterSpecifier {
		works.Did[api.ClusterSpecifierConfigFactory]("", "called")
		probe.Count("specifiers", 1)
		return &chooser{config: configOf(any)}
	})
}

// chooser does what the path says: the first segment is the name of a way to choose.
//
//	/name/CLUSTER    that one
//	/header/NAME     the one that this request header names
//	/long/N          a name of N bytes
//	/empty, /panic   none
//	/keep/NAME       notes the header's value for /kept, which is given as cluster
//	/die/HOW         none: the end of the process (internal/fatal)
//	/wait/SIGNAL     the one of the config, once somebody signals
//	/behind/SIGNAL   the one of the config; asks for a header later, which is counted as found or lost
type chooser struct {
	config config
	lock   sync.Mutex
	kept   string
}

func (c *chooser) Cluster(header api.RequestHeaderMap) string {
	path, _ := header.Get(":path")
	path, _, _ = strings.Cut(path, "?")
	probe.Count("specified", 1)
	way, argument, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch way {
	case "name":
		works.Told[api.ClusterSpecifier]("called")
		works.Ask("", header, "Get", "x-to")
		return argument
	case "header":
		value, found := header.Get(argument)
		if !found {
			probe.Count("header_absent", 1)
		}
		return value
	case "long":
		n, _ := strconv.Atoi(argument)
		return strings.Repeat("c", n)
	case "die":
		fatal.Die(argument)
	case "panic":
		panic("no idea")
	case "keep":
		c.lock.Lock()
		defer c.lock.Unlock()
		c.kept, _ = header.Get(argument) // where it lies in the proxy's memory
		return c.config.text("cluster")
	case "kept":
		runtime.GC()
		c.lock.Lock()
		defer c.lock.Unlock()
		return c.kept
	case "wait":
		probe.Wait(argument)
		return c.config.text("cluster")
	case "behind":
		go func() {
			probe.Wait(argument)
			if _, found := header.Get(":path"); found {
				probe.Count("late_found", 1)
			} else {
				probe.Count("late_lost", 1)
			}
		}()
		return c.config.text("cluster")
	}
	return ""
}
