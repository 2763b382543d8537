package strings_kept

import (
	"strings"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
)

type filter struct {
	path  string
	parts []string
	n     int
	seen  map[string]string
}

var last string

func use(string) {}

func (f *filter) keeps(header api.RequestHeaderMap, out chan string) {
	f.path = header.GetRaw(":path") // want `a string of GetRaw is kept`
	raw := header.GetRaw("x")
	last = raw                                     // want `is kept`
	f.path = raw[1:]                               // want `is kept`
	f.path = strings.TrimSpace(raw)                // want `is kept`
	f.parts = strings.Split(raw, ",")              // want `is kept`
	f.parts = append(f.parts, raw)                 // want `is kept`
	f.seen["x"] = raw                              // want `is kept`
	out <- raw                                     // want `is sent away`
	key, _, _ := strings.Cut(string(raw), "=")     // a conversion shares the bytes
	f.path = key                                   // want `is kept`
	for _, part := range strings.Split(raw, ",") { // each is a part of it
		f.path = part // want `is kept`
	}
	*f = filter{path: raw} // want `is kept`
	go use(raw)            // want `goes to a goroutine`
	go func() {
		use(raw) // want `goes to a goroutine`
		use(raw)
	}()
}

func (f *filter) copies(header api.RequestHeaderMap, out chan string) {
	raw := header.GetRaw("x")
	f.path = strings.Clone(raw)
	f.path = "x" + raw
	f.n = len(raw)
	f.n = int(raw[0])
	out <- strings.Repeat(raw, 2)
	use(raw)
	local := filter{}
	local.path = raw
	parts := strings.Split(raw, ",")
	use(parts[0])
	value, _ := header.Get("x")
	f.path = value
	go use(strings.Clone(raw))
	kept := []byte(raw)
	go use(string(kept))
}
