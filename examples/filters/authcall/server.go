package authcall

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// question is what the server is asked about.
type question struct {
	method, path, host string
	headers            [][]string // in the order of config.Forward
}

// key tells questions apart. No part has a NUL, so different ones differ.
func (q question) key() string {
	parts := []string{q.method, q.path, q.host}
	for _, values := range q.headers {
		parts = append(parts, "\x00")
		parts = append(parts, values...)
	}
	return strings.Join(parts, "\x00")
}

type answer struct {
	status     int
	body       string
	challenges []string   // www-authenticate
	copied     [][]string // in the order of config.Copy
}

func (a *answer) denied() bool {
	return a.status >= 300
}

func (a *answer) challenge() map[string][]string {
	if len(a.challenges) == 0 {
		return nil
	}
	return map[string][]string{"www-authenticate": a.challenges}
}

func (a *answer) grpcStatus() int64 {
	switch a.status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return 16 // unauthenticated
	case http.StatusTooManyRequests:
		return 8 // resource exhausted
	}
	return 7 // permission denied
}

const (
	maxBody   = 4096  // of a denial that is handed on
	maxCached = 10000 // answers
)

type server struct {
	config *config
	client *http.Client

	mutex sync.Mutex
	cache map[string]cached
}

type cached struct {
	answer *answer
	until  time.Time
}

func newServer(c *config) *server {
	return &server{
		config: c,
		client: &http.Client{
			Timeout: time.Duration(c.Timeout),
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // it is asked, and nobody else
			},
		},
		cache: make(map[string]cached),
	}
}

// ask asks the server, or remembers. An error: it could not say.
func (s *server) ask(ctx context.Context, q question) (*answer, error) {
	if s.config.CacheTTL == 0 {
		return s.askNow(ctx, q)
	}
	key, now := q.key(), time.Now()
	s.mutex.Lock()
	known, there := s.cache[key]
	s.mutex.Unlock()
	if there && now.Before(known.until) {
		return known.answer, nil
	}
	a, err := s.askNow(ctx, q)
	if err == nil && !a.denied() { // a no may be a yes at once: a token was made good
		s.remember(key, cached{a, now.Add(time.Duration(s.config.CacheTTL))}, now)
	}
	return a, err
}

func (s *server) remember(key string, answer cached, now time.Time) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.cache) >= maxCached {
		for old, known := range s.cache {
			if now.After(known.until) {
				delete(s.cache, old)
			}
		}
	}
	if len(s.cache) < maxCached { // all still good: then this one is not remembered
		s.cache[key] = answer
	}
}

func (s *server) askNow(ctx context.Context, q question) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("x-forwarded-method", q.method)
	request.Header.Set("x-forwarded-uri", q.path)
	request.Header.Set("x-forwarded-host", q.host)
	for i, name := range s.config.Forward {
		for _, value := range q.headers[i] {
			request.Header.Add(name, value)
		}
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, err
	}
	a := &answer{status: response.StatusCode, challenges: response.Header.Values("www-authenticate")}
	switch {
	case a.status >= 200 && a.status < 300:
		for _, name := range s.config.Copy {
			a.copied = append(a.copied, response.Header.Values(name))
		}
	case a.status == 401 || a.status == 403 || a.status == 407 || a.status == 429:
		a.body = string(body)
	default:
		return nil, fmt.Errorf("%s answered %s", s.config.URL, response.Status)
	}
	return a, nil
}
