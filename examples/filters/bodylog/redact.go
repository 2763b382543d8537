package bodylog

import (
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// redactor takes values out of text that need not be whole: a body is cut at
// max_bytes, and what is cut may begin inside of a secret. So it goes by
// expressions that also match what ends too early, and not by a JSON parser.
type redactor struct {
	fields   *regexp.Regexp // nil: none
	form     *regexp.Regexp
	patterns []*regexp.Regexp
}

func newRedactor(fields []string, patterns []*regexp.Regexp) *redactor {
	r := &redactor{patterns: patterns}
	if len(fields) == 0 {
		return r
	}
	names := make([]string, len(fields))
	for i, field := range fields {
		names[i] = regexp.QuoteMeta(field)
	}
	name := "(?:" + strings.Join(names, "|") + ")"
	// "name": and a string, also one that is cut; an object or an array up to the end of
	// the text, since where it ends a regular expression cannot tell; or a word.
	r.fields = regexp.MustCompile(`(?is)("` + name + `"\s*:\s*)("(?:[^"\\]|\\.)*\\?(?:"|$)|[\[{].*|[^\s,}\]"\[{]+)`)
	r.form = regexp.MustCompile(`(?i)((?:^|[&?;])` + name + `=)[^&;#\s]*`)
	return r
}

func (r *redactor) redact(text string) string {
	if r.fields != nil {
		text = r.fields.ReplaceAllString(text, `${1}"`+redacted+`"`)
	}
	return r.redactQuery(text)
}

func (r *redactor) redactQuery(text string) string {
	if r.form != nil {
		text = r.form.ReplaceAllString(text, `${1}`+redacted)
	}
	for _, pattern := range r.patterns {
		text = pattern.ReplaceAllString(text, redacted)
	}
	return text
}
