package jsonbody

import (
	"encoding/json"
	"strings"
	"testing"
)

func made(t *testing.T, text string) *rewrite {
	t.Helper()
	r := &rewrite{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		t.Fatal(err)
	}
	if err := r.prepare("request"); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestApply(t *testing.T) {
	for _, c := range []struct{ rules, body, want string }{
		{`{"set":{"a":1}}`, `{}`, `{"a":1}`},
		{`{"set":{"a.b.c":"x"}}`, `{"a":{"z":0}}`, `{"a":{"b":{"c":"x"},"z":0}}`},
		{`{"set":{"a.b":1}}`, `{"a":[1,2]}`, `{"a":{"b":1}}`},
		{`{"default":{"t":0.7}}`, `{"t":0.10}`, `{"t":0.10}`},
		{`{"default":{"t":0.7}}`, `{"t":null}`, `{"t":null}`},
		{`{"default":{"t":0.7}}`, `{}`, `{"t":0.7}`},
		{`{"remove":["a.b","nope.x"]}`, `{"a":{"b":1,"c":2}}`, `{"a":{"c":2}}`},
		{`{"rename":{"prompt":"input.text"}}`, `{"prompt":"<é>"}`, `{"input":{"text":"<é>"}}`},
		{`{"rename":{"a":"b"},"remove":["b"],"set":{"c":true}}`, `{"a":1}`, `{"c":true}`},
		{`{"set":{"a":1}}`, `{"n":1e400,"big":12345678901234567890123}`, `{"a":1,"big":12345678901234567890123,"n":1e400}`},
		{`{"set":{"a":1}}`, ` [1, 2]`, ` [1, 2]`},
	} {
		got, err := made(t, c.rules).apply([]byte(c.body))
		if err != nil || string(got) != c.want {
			t.Errorf("%s on %s: %s, %v; want %s", c.rules, c.body, got, err, c.want)
		}
	}
}

func TestWhatIsNotJSONIsAnError(t *testing.T) {
	for _, body := range []string{"", "{", `{"a":1} x`, "nul", `{"a":1}{}`} {
		if got, err := made(t, `{"set":{"a":1}}`).apply([]byte(body)); err == nil {
			t.Errorf("%q became %s", body, got)
		}
	}
}

func TestPathsWithEmptyKeysAreRefused(t *testing.T) {
	for _, text := range []string{`{"set":{"":1}}`, `{"remove":["a..b"]}`, `{"rename":{"a":"b."}}`, `{"default":{".a":1}}`} {
		r := &rewrite{}
		if err := json.Unmarshal([]byte(text), r); err != nil {
			t.Fatal(err)
		}
		if err := r.prepare("response"); err == nil || !strings.HasPrefix(err.Error(), "response: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
