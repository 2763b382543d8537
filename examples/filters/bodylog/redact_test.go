package bodylog

import (
	"regexp"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	r := newRedactor([]string{"password", "api.key"}, []*regexp.Regexp{regexp.MustCompile(`\b\d{13,16}\b`)})
	for text, want := range map[string]string{
		``:                              ``,
		`{"user":"a"}`:                  `{"user":"a"}`,
		`{"password":"x","b":1}`:        `{"password":"[redacted]","b":1}`,
		`{"Password" : "a\"b\\","c":2}`: `{"Password" : "[redacted]","c":2}`,
		`{"password":12345,"b":1}`:      `{"password":"[redacted]","b":1}`,
		`{"password":null}`:             `{"password":"[redacted]"}`,
		`{"password":{"a":"x"},"b":1}`:  `{"password":"[redacted]"`,
		`{"password":["x",`:             `{"password":"[redacted]"`,
		`{"password":"cut he`:           `{"password":"[redacted]"`,
		`{"password":"cut at \`:         `{"password":"[redacted]"`,
		`{"api.key":"x","apiXkey":"y"}`: `{"api.key":"[redacted]","apiXkey":"y"}`,
		`user=a&password=b+c&d=e`:       `user=a&password=[redacted]&d=e`,
		`card 4111111111111111 ok`:      `card [redacted] ok`,
	} {
		if got := r.redact(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// Wherever a body is cut, nothing of the secret is left.
func TestNoCutShowsTheSecret(t *testing.T) {
	r := newRedactor([]string{"password"}, nil)
	for _, text := range []string{`{"a":"b","password":"geheim \"und\" lang","c":"d"}`, `{"password":["geheim",{"x":"geheim"}]}`, `a=b&password=geheim`} {
		for cut := range len(text) + 1 {
			if got := r.redact(text[:cut]); strings.Contains(got, "geh") {
				t.Fatalf("%s: %s", text[:cut], got)
			}
		}
	}
}

func TestNothingToRedact(t *testing.T) {
	if got := newRedactor(nil, nil).redact(`{"password":"x"}`); got != `{"password":"x"}` {
		t.Fatal(got)
	}
}
