package authcall

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"sluice.dev/examples/filters/settings"
)

func serverAt(t *testing.T, ttl time.Duration, handler http.HandlerFunc) *server {
	t.Helper()
	peer := httptest.NewServer(handler)
	t.Cleanup(peer.Close)
	return newServer(&config{
		URL:      peer.URL + "/check",
		Timeout:  settings.Duration(10 * time.Second),
		Forward:  []string{"authorization"},
		Copy:     []string{"x-auth-user"},
		CacheTTL: settings.Duration(ttl),
	})
}

var about = question{method: "PUT", path: "/x?y", host: "example.org", headers: [][]string{{"Bearer t"}}}

func TestTheServerIsToldWhatItIsAbout(t *testing.T) {
	var got *http.Request
	s := serverAt(t, 0, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header()["X-Auth-User"] = []string{"alice", "admins"}
	})
	a, err := s.ask(context.Background(), about)
	if err != nil || a.denied() || !reflect.DeepEqual(a.copied, [][]string{{"alice", "admins"}}) {
		t.Fatal(a, err)
	}
	for name, want := range map[string]string{
		"x-forwarded-method": "PUT", "x-forwarded-uri": "/x?y", "x-forwarded-host": "example.org", "authorization": "Bearer t",
	} {
		if value := got.Header.Get(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	for status, want := range map[int]struct {
		denied, failed bool
	}{
		204: {}, 401: {denied: true}, 403: {denied: true}, 429: {denied: true},
		302: {failed: true}, 404: {failed: true}, 500: {failed: true},
	} {
		s := serverAt(t, 0, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("www-authenticate", "Bearer")
			w.Header().Set("location", "/elsewhere")
			w.WriteHeader(status)
		})
		a, err := s.ask(context.Background(), about)
		if (err != nil) != want.failed || (err == nil && a.denied() != want.denied) {
			t.Errorf("%d: %+v, %v", status, a, err)
		}
	}
}

func TestOnlyAYesIsRemembered(t *testing.T) {
	asked, status := 0, 403
	s := serverAt(t, time.Hour, func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.WriteHeader(status)
	})
	ask := func(q question) {
		t.Helper()
		if _, err := s.ask(context.Background(), q); err != nil {
			t.Fatal(err)
		}
	}
	ask(about)
	status = 200
	ask(about)
	ask(about)
	if asked != 2 {
		t.Fatal("asked", asked, "times")
	}
	other := about
	other.headers = [][]string{{"Bearer other"}}
	ask(other)
	if asked != 3 {
		t.Fatal("the answer of one was another's")
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	s := serverAt(t, time.Hour, nil)
	now := time.Now()
	for i := range maxCached {
		s.remember(string(rune('a'+i)), cached{&answer{}, now.Add(time.Hour)}, now)
	}
	s.remember("one more", cached{&answer{}, now.Add(time.Hour)}, now)
	if _, there := s.cache["one more"]; there || len(s.cache) != maxCached {
		t.Fatal(there, len(s.cache))
	}
	late := now.Add(2 * time.Hour)
	s.remember("later", cached{&answer{}, late.Add(time.Hour)}, late)
	if _, there := s.cache["later"]; !there || len(s.cache) != 1 {
		t.Fatal(there, len(s.cache))
	}
}

func TestWhoLeavesIsNotWaitedFor(t *testing.T) {
	here := make(chan struct{})
	s := serverAt(t, 0, func(w http.ResponseWriter, r *http.Request) {
		close(here)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-here
		cancel()
	}()
	if a, err := s.ask(ctx, about); err == nil {
		t.Fatal(a)
	}
}
