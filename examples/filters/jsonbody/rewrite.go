package jsonbody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
)

// rewrite is what is done to one body. Paths are keys with dots in between.
type rewrite struct {
	Set     map[string]json.RawMessage `json:"set"`
	Default map[string]json.RawMessage `json:"default"`
	Rename  map[string]string          `json:"rename"`
	Remove  []string                   `json:"remove"`

	renames []string // keys of Rename, in order: the same body always comes out the same
}

func (r *rewrite) prepare(direction string) error {
	if r == nil {
		return nil
	}
	check := func(path string) error {
		for _, key := range strings.Split(path, ".") {
			if key == "" {
				return fmt.Errorf("%s: %q is no path: a key is empty", direction, path)
			}
		}
		return nil
	}
	var problems []error
	for path := range r.Set {
		problems = append(problems, check(path))
	}
	for path := range r.Default {
		problems = append(problems, check(path))
	}
	for from, to := range r.Rename {
		problems = append(problems, check(from), check(to))
		r.renames = append(r.renames, from)
	}
	for _, path := range r.Remove {
		problems = append(problems, check(path))
	}
	sort.Strings(r.renames)
	return errors.Join(problems...)
}

// apply returns the body rewritten. One that is JSON but no object has nothing
// that a path could name, and is returned as it was.
func (r *rewrite) apply(body []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // as it was written: 1e400 and 0.10 stay what they are
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("there is more behind the value")
	}
	root, isObject := value.(map[string]any)
	if !isObject {
		return body, nil
	}
	for _, from := range r.renames {
		if moved, there := take(root, from); there {
			put(root, r.Rename[from], moved)
		}
	}
	for _, path := range r.Remove {
		take(root, path)
	}
	for path, value := range r.Default {
		if _, there := find(root, path); !there {
			put(root, path, value)
		}
	}
	for path, value := range r.Set {
		put(root, path, value)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(root); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// parent finds the object that has the path's last key, and that key.
func parent(root map[string]any, path string, make bool) (map[string]any, string) {
	for {
		key, rest, more := strings.Cut(path, ".")
		if !more {
			return root, key
		}
		next, isObject := root[key].(map[string]any)
		if !isObject {
			if !make {
				return nil, ""
			}
			next = map[string]any{}
			root[key] = next
		}
		root, path = next, rest
	}
}

func find(root map[string]any, path string) (any, bool) {
	object, key := parent(root, path, false)
	value, there := object[key]
	return value, there
}

func take(root map[string]any, path string) (any, bool) {
	object, key := parent(root, path, false)
	value, there := object[key]
	delete(object, key)
	return value, there
}

func put(root map[string]any, path string, value any) {
	object, key := parent(root, path, true)
	object[key] = value
}
