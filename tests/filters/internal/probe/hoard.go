package probe

import (
	"bytes"
	"strings"
)

// What filters kept of their requests for ever, beside copies that show whether it
// is still what it was. Guarded by mu.
var (
	keptStrings [][2]string
	keptBytes   [][2][]byte
)

// HoardString keeps a string as it came, and a copy of it.
func HoardString(s string) {
	mu.Lock()
	defer mu.Unlock()
	keptStrings = append(keptStrings, [2]string{s, strings.Clone(s)})
}

// HoardBytes does the same with a slice.
func HoardBytes(b []byte) {
	mu.Lock()
	defer mu.Unlock()
	keptBytes = append(keptBytes, [2][]byte{b, bytes.Clone(b)})
}

// Hoard says how much was kept and how much of it has changed since, and forgets all.
func Hoard() (kept, changed int) {
	mu.Lock()
	defer mu.Unlock()
	for _, s := range keptStrings {
		if s[0] != s[1] {
			changed++
		}
	}
	for _, b := range keptBytes {
		if !bytes.Equal(b[0], b[1]) {
			changed++
		}
	}
	kept = len(keptStrings) + len(keptBytes)
	keptStrings, keptBytes = nil, nil
	return kept, changed
}
