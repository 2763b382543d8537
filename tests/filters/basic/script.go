package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A script says what a filter does in one phase of one request: actions
// separated by commas, each a name and arguments separated by colons. Arguments
// are percent-encoded (once more than the query they came in), so they may hold
// any byte. Before the name may stand conditions, all of which must hold:
//
//	first?  the first chunk of the body      n3?    the third chunk
//	end?    end_stream is set                more?  it is not
//
// and `try!`, which catches the action's panic and records its text.
type script []action

type action struct {
	name  string
	args  []string
	conds []string
	try   bool
}

func parseScript(text string) (script, error) {
	var s script
	for _, part := range strings.Split(text, ",") {
		if part == "" {
			continue
		}
		var a action
		for {
			at := strings.IndexAny(part, "?!:")
			if at < 0 || part[at] == ':' {
				break
			}
			if part[at] == '!' {
				if part[:at] != "try" {
					return nil, fmt.Errorf("unknown prefix %q", part[:at+1])
				}
				a.try = true
			} else {
				a.conds = append(a.conds, part[:at])
			}
			part = part[at+1:]
		}
		for i, word := range strings.Split(part, ":") {
			plain, err := url.PathUnescape(word)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				a.name = plain
			} else {
				a.args = append(a.args, plain)
			}
		}
		s = append(s, a)
	}
	return s, nil
}

// arg returns an argument, or "" when the script gave fewer.
func (a *action) arg(i int) string {
	if i < len(a.args) {
		return a.args[i]
	}
	return ""
}

// num returns an argument as a number; a script with a bad one is a bug of the
// test and shows as a panic, hence as status 500.
func (a *action) num(i int) int {
	n, err := strconv.Atoi(a.arg(i))
	if err != nil {
		panic(fmt.Sprintf("script: %s: argument %d: %v", a.name, i, err))
	}
	return n
}

// holds tells whether all conditions of the action are met.
func (a *action) holds(r *run) bool {
	for _, cond := range a.conds {
		switch {
		case cond == "first" && r.chunk == 1:
		case cond == "end" && r.end:
		case cond == "more" && !r.end:
		case strings.HasPrefix(cond, "n") && cond[1:] == strconv.Itoa(r.chunk):
		default:
			return false
		}
	}
	return true
}
