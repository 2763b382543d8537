// Command heap is a library of one test filter whose C part has memory of the
// process: 10 MB for as long as it is loaded, a little noise for each /rand, and
// 10 MB more from a /spike until a /release. The three have functions of their own,
// so that a heap profile tells them apart.
package main

/*
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 10, BLOCK_BYTES = 1000 * 1000, NOISE = 512 };

static void *held[BLOCKS], *spiked[BLOCKS];

static void fill(void **blocks) {
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i])
			memset(blocks[i], 1, BLOCK_BYTES);
}

__attribute__((noinline)) void heap_hold(void) {
	for (int i = 0; i < BLOCKS; i++)
		held[i] = malloc(BLOCK_BYTES);
	fill(held);
}

__attribute__((noinline)) void heap_spike(void) {
	for (int i = 0; i < BLOCKS; i++)
		if (!spiked[i])
			spiked[i] = malloc(BLOCK_BYTES);
	fill(spiked);
}

__attribute__((noinline)) void heap_release(void) {
	for (int i = 0; i < BLOCKS; i++) {
		free(spiked[i]);
		spiked[i] = NULL;
	}
}

// As many objects as the numbers say, a quarter of a megabyte in all, for a moment.
__attribute__((noinline)) void heap_rand(unsigned seed) {
	void *objects[NOISE];
	for (int i = 0; i < NOISE; i++) {
		seed = seed * 1664525 + 1013904223;
		objects[i] = malloc(seed >> 22);
		if (objects[i])
			memset(objects[i], 1, seed >> 22);
	}
	for (int i = 0; i < NOISE; i++)
		free(objects[i]);
}
*/
import "C"

import (
	"strings"
	"sync"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
	"github.com/envoyproxy/envoy/contrib/golang/filters/http/source/go/pkg/http"

	"sluice.dev/tests/filters/internal/probe"
)

func init() {
	http.RegisterHttpFilterFactoryAndConfigParser("heap", newFilter, http.NullParser)
	probe.RegisterReport("heap")
	C.heap_hold()
}

func main() {}

type filter struct {
	api.PassThroughStreamFilter
	callbacks api.FilterCallbackHandler
}

func newFilter(_ interface{}, callbacks api.FilterCallbackHandler) api.StreamFilter {
	f := &filter{callbacks: callbacks}
	probe.Watch(f)
	return f
}

var (
	mutex sync.Mutex // spiked has one owner at a time
	seed  C.uint
)

// DecodeHeaders does what the path says and answers.
func (f *filter) DecodeHeaders(header api.RequestHeaderMap, _ bool) api.StatusType {
	mutex.Lock()
	switch {
	case strings.HasPrefix(header.Path(), "/rand"):
		seed++
		C.heap_rand(seed)
	case strings.HasPrefix(header.Path(), "/spike"):
		C.heap_spike()
	case strings.HasPrefix(header.Path(), "/release"):
		C.heap_release()
	}
	mutex.Unlock()
	f.callbacks.DecoderFilterCallbacks().SendLocalReply(200, "done\n", nil, 0, "heap")
	return api.LocalReply
}

func (f *filter) OnDestroy(api.DestroyReason) { probe.Destroyed.Add(1) }
