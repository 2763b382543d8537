// Peers on Go's net/http, whose view of HTTP/1.1 is independent of the proxy's:
//
//	peers origin              serves on a port of its own, which it prints
//	peers client BASE-URL     asks BASE-URL in many ways and says what is wrong with the answers
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "origin":
		origin()
	case len(os.Args) == 3 && os.Args[1] == "client":
		os.Exit(client(os.Args[2]))
	default:
		fmt.Fprintln(os.Stderr, "usage: peers origin | peers client BASE-URL")
		os.Exit(2)
	}
}

// ---- the origin ----

func origin() {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex() // else Go may cut the body at its answer
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("trailer", "x-seen")
		io.WriteString(w, "body")
		w.Header().Set("x-seen", r.Trailer.Get("x-sent"))
	})
	mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < 5; i++ {
			fmt.Fprintf(w, "piece %d\n", i)
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "after the hints")
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no", http.StatusExpectationFailed) // without reading: no 100 is sent
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-length", "100")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // until the proxy hangs up
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() { // ends with the test that holds our standard input
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if cert := os.Getenv("PEERS_CERT"); cert != "" { // over TLS
		fmt.Fprintln(os.Stderr, http.ServeTLS(listener, mux, cert, os.Getenv("PEERS_KEY")))
		return
	}
	fmt.Fprintln(os.Stderr, http.Serve(listener, mux))
}

// ---- the client ----

type checker struct {
	base   string
	client *http.Client
	failed int
}

func (c *checker) check(ok bool, format string, args ...any) {
	if !ok {
		c.failed++
		fmt.Printf(format+"\n", args...)
	}
}

func (c *checker) do(request *http.Request) (*http.Response, string, error) {
	response, err := c.client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

func (c *checker) request(method, path string, body io.Reader) *http.Request {
	request, err := http.NewRequest(method, c.base+path, body)
	if err != nil {
		panic(err)
	}
	return request
}

func (c *checker) expect(method, path string, body io.Reader, status int, want string) *http.Response {
	response, got, err := c.do(c.request(method, path, body))
	if err != nil {
		c.check(false, "%s %s: %v", method, path, err)
		return nil
	}
	c.check(response.StatusCode == status, "%s %s: %s", method, path, response.Status)
	c.check(got == want, "%s %s: body %.60q, not %.60q", method, path, got, want)
	return response
}

func client(base string) int {
	c := &checker{base: base, client: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost:   64,
		ExpectContinueTimeout: 30 * time.Second,
	}}}
	c.simple()
	c.reuse()
	c.large()
	c.trailers()
	c.expectContinue()
	c.cut()
	c.cancel()
	c.many()
	fmt.Printf("%d failed\n", c.failed)
	if c.failed > 0 {
		return 1
	}
	return 0
}

func (c *checker) simple() {
	c.expect("GET", "/echo", nil, 200, "")
	c.expect("POST", "/echo", strings.NewReader("hello"), 200, "hello")
	c.expect("PUT", "/echo", io.MultiReader(strings.NewReader("chunk"), strings.NewReader("ed")), 200, "chunked")
	c.expect("HEAD", "/flush", nil, 200, "")
	c.expect("GET", "/flush", nil, 200, "piece 0\npiece 1\npiece 2\npiece 3\npiece 4\n")
	c.expect("GET", "/empty", nil, 204, "")
	c.expect("GET", "/hints", nil, 200, "after the hints")
	c.expect("GET", "/no-such-path", nil, 404, "404 page not found\n")
}

// All of these on one connection.
func (c *checker) reuse() {
	for i := 0; i < 50; i++ {
		reused := false
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
		request := c.request("POST", "/echo", strings.NewReader("again"))
		request = request.WithContext(httptrace.WithClientTrace(request.Context(), trace))
		_, body, err := c.do(request)
		c.check(err == nil && body == "again", "reuse: %q, %v", body, err)
		c.check(reused, "request %d has a connection of its own", i)
	}
}

func (c *checker) large() {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	want := fmt.Sprintf("%d %x <nil>", len(data), sha256.Sum256(data))
	c.expect("POST", "/sum", bytes.NewReader(data), 200, want)
	c.expect("POST", "/sum", io.MultiReader(bytes.NewReader(data)), 200, want) // chunked
	response, body, err := c.do(c.request("POST", "/echo", bytes.NewReader(data)))
	c.check(err == nil && response.StatusCode == 200, "large echo: %v", err)
	c.check(body == string(data), "large echo: %d bytes came back", len(body))
}

func (c *checker) trailers() {
	request := c.request("POST", "/trailers", io.MultiReader(strings.NewReader("x")))
	request.Trailer = http.Header{"X-Sent": {"there and back"}}
	response, body, err := c.do(request)
	c.check(err == nil && body == "body", "trailers: %q, %v", body, err)
	if err == nil {
		seen := response.Trailer.Get("x-seen")
		c.check(seen == "there and back", "trailer %q", seen)
	}
}

func (c *checker) expectContinue() {
	invited := 0
	trace := &httptrace.ClientTrace{Got100Continue: func() { invited++ }}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	request := c.request("POST", "/echo", strings.NewReader("invited")).WithContext(ctx)
	request.Header.Set("expect", "100-continue")
	_, body, err := c.do(request)
	c.check(err == nil && body == "invited" && invited == 1, "expect: %q, %v, %d", body, err, invited)
	request = c.request("POST", "/refuse", strings.NewReader("unwanted")).WithContext(ctx)
	request.Header.Set("expect", "100-continue")
	response, _, err := c.do(request)
	c.check(err == nil && response.StatusCode == 417, "refused: %v", err)
}

// A response that is cut must not look whole.
func (c *checker) cut() {
	response, body, err := c.do(c.request("GET", "/abort", nil))
	c.check(err != nil, "abort: %v %q", response, body)
}

func (c *checker) cancel() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, _, err := c.do(c.request("GET", "/wait", nil).WithContext(ctx))
	c.check(errors.Is(err, context.DeadlineExceeded), "cancel: %v", err)
}

func (c *checker) many() {
	var group sync.WaitGroup
	wrong := make(chan string, 64*20)
	for i := 0; i < 64; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < 20; j++ {
				want := strings.Repeat(fmt.Sprintf("%d.%d ", i, j), 1+i*j)
				_, body, err := c.do(c.request("POST", "/echo", strings.NewReader(want)))
				if err != nil || body != want {
					wrong <- fmt.Sprintf("many: %d.%d: %d bytes, %v", i, j, len(body), err)
				}
			}
		}()
	}
	group.Wait()
	close(wrong)
	for what := range wrong {
		c.check(false, "%s", what)
	}
}
