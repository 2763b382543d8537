package apikey

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func hashOf(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

func line(name, key string) string { return fmt.Sprintf("%s %x\n", name, hashOf(key)) }

// put replaces the file at once, as editors and mounted secrets do.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// eventually asks until it is so; only a broken store takes ten seconds.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

func TestParse(t *testing.T) {
	keys, err := parse(strings.NewReader("# ours\n\n" + line("alice", "a") + "  bob\t" + fmt.Sprintf("%X # late\n", hashOf("b"))))
	if err != nil || len(keys) != 2 || keys[hashOf("a")] != "alice" || keys[hashOf("b")] != "bob" {
		t.Fatal(keys, err)
	}
	for text, want := range map[string]string{
		"":                                  "no keys",
		"# nothing\n":                       "no keys",
		"alice\n":                           "1: want a name",
		"\nalice 1234\n":                    "2: want a name",
		line("alice", ""):                   "no key at all",
		line("a b", "c"):                    "1: want a name",
		"alice " + strings.Repeat("zz", 32): "1: encoding/hex",
	} {
		if keys, err := parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", text, keys, err, want)
		}
	}
}

func TestAFileThatChangesIsReadAgain(t *testing.T) {
	var said []string
	told := make(chan string, 8)
	complain = func(format string, v ...any) { told <- fmt.Sprintf(format, v...) }
	path := filepath.Join(t.TempDir(), "keys")
	put(t, path, line("alice", "a"))
	s, err := openStore(path, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	knows := func(key string) bool { _, known := s.client(hashOf(key)); return known }
	if !knows("a") || knows("b") {
		t.Fatal("not the file's keys")
	}

	put(t, path, line("bob", "b"))
	eventually(t, "bob comes and alice goes", func() bool { return knows("b") && !knows("a") })

	put(t, path, "rubbish\n")
	said = append(said, <-told)
	if !strings.Contains(said[0], "going on with the keys read before") || !knows("b") {
		t.Fatal(said, knows("b"))
	}
	put(t, path, line("carol", "c"))
	eventually(t, "the store recovers", func() bool { return knows("c") })
	runtime.KeepAlive(s)
}

func TestTheWatcherEndsWithItsStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	put(t, path, line("alice", "a"))
	s, err := openStore(path, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ended := s.ended
	s = nil
	eventually(t, "the watcher ends", func() bool {
		runtime.GC()
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}
