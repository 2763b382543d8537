package apikey

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/envoyproxy/envoy/contrib/golang/common/go/api"
)

var complain = api.LogErrorf // which needs a proxy

// store is what requests look keys up in. They see one state of the file or
// the next, never half of one, and take no lock: `keys` is replaced whole.
type store struct {
	*watched
}

// watched is all that the watcher holds. It does not hold the store, so that
// the garbage collector finds a store that no configuration has any more; its
// finalizer then ends the watcher.
type watched struct {
	path  string
	keys  atomic.Pointer[map[[sha256.Size]byte]string]
	seen  fs.FileInfo // the watcher's
	ended chan struct{}
}

func openStore(path string, interval time.Duration) (*store, error) {
	w := &watched{path: path, ended: make(chan struct{})}
	if err := w.read(); err != nil {
		return nil, err
	}
	s := &store{w}
	runtime.SetFinalizer(s, func(s *store) { close(s.ended) })
	go w.watch(interval)
	return s, nil
}

func (w *watched) client(hash [sha256.Size]byte) (name string, known bool) {
	name, known = (*w.keys.Load())[hash]
	return name, known
}

func (w *watched) watch(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-w.ended:
			return
		case <-ticker.C:
		}
		info, err := os.Stat(w.path)
		if err == nil && w.seen != nil && os.SameFile(info, w.seen) &&
			info.ModTime().Equal(w.seen.ModTime()) && info.Size() == w.seen.Size() {
			continue
		}
		if err = w.read(); err != nil && w.seen != nil {
			complain("apikey: %v; going on with the keys read before", err)
		}
		if err != nil {
			w.seen = nil // said once; what comes next is read whatever it looks like
		}
	}
}

// read replaces the keys, or leaves them all as they are.
func (w *watched) read() error {
	file, err := os.Open(w.path)
	if err != nil {
		return fmt.Errorf("keys_file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("keys_file: %w", err)
	}
	keys, err := parse(file)
	if err != nil {
		return fmt.Errorf("keys_file: %s:%w", w.path, err)
	}
	w.keys.Store(&keys)
	w.seen = info
	return nil
}

func parse(text io.Reader) (map[[sha256.Size]byte]string, error) {
	keys := make(map[[sha256.Size]byte]string)
	lines := bufio.NewScanner(text)
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var hash [sha256.Size]byte
		if len(fields) != 2 || hex.DecodedLen(len(fields[1])) != len(hash) {
			return nil, fmt.Errorf("%d: want a name and the SHA-256 of its key in hex", number)
		}
		if _, err := hex.Decode(hash[:], []byte(fields[1])); err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		if hash == sha256.Sum256(nil) {
			return nil, fmt.Errorf("%d: that is the hash of no key at all", number)
		}
		keys[hash] = fields[0]
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("1: the file has no keys")
	}
	return keys, nil
}
