package ratelimit

import (
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func TestABurstAndThenTheRate(t *testing.T) {
	b := newBuckets(10, 3, 100)
	for i := range 3 {
		if wait := b.take("a", start); wait != 0 {
			t.Fatalf("request %d of the burst waits %v", i, wait)
		}
	}
	if wait := b.take("a", start); wait != 100*time.Millisecond {
		t.Fatal("the next token comes after a tenth of a second, not", wait)
	}
	if wait := b.take("b", start); wait != 0 {
		t.Fatal("others have buckets of their own, yet wait", wait)
	}
	if wait := b.take("a", start.Add(100*time.Millisecond)); wait != 0 {
		t.Fatal("a token came, yet", wait)
	}
	if wait := b.take("a", start.Add(50*time.Millisecond)); wait == 0 {
		t.Fatal("a clock that goes back brings no tokens")
	}
}

// Whatever comes when, no client gets more than burst + rate * time.
func TestNobodyGetsMoreThanTheBucketGives(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	b := newBuckets(7, 5, 1000)
	now, passed := start, map[string]int{}
	for range 100_000 {
		now = now.Add(time.Duration(random.ExpFloat64() * float64(20*time.Millisecond)))
		client := fmt.Sprint(random.Intn(5))
		if b.take(client, now) == 0 {
			passed[client]++
		}
		if most := 5 + 7*now.Sub(start).Seconds(); float64(passed[client]) > most {
			t.Fatalf("client %s: %d requests where %.1f may pass", client, passed[client], most)
		}
	}
	for client, n := range passed { // each asks 10 times a second on average: it gets nearly all of 7
		if most := 7 * now.Sub(start).Seconds(); float64(n) < 0.9*most {
			t.Errorf("client %s: only %d of %.0f", client, n, most)
		}
	}
}

func TestManyClientsTakeBoundedMemory(t *testing.T) {
	b := newBuckets(1, 1, 64)
	for i := range 10_000 {
		b.take(fmt.Sprint(i), start)
	}
	kept := 0
	for i := range b.shards {
		if n := len(b.shards[i].byName); n != b.shards[i].byUse.Len() {
			t.Fatal(n, b.shards[i].byUse.Len())
		}
		kept += len(b.shards[i].byName)
	}
	if kept > 64 {
		t.Fatal(kept, "buckets are kept, of 64")
	}
}

func TestThreadsShareABucket(t *testing.T) {
	b := newBuckets(1, 1000, 10)
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 500 {
				if b.take("one", start) == 0 {
					passed.Add(1)
				}
			}
		}()
	}
	all.Wait()
	if passed.Load() != 1000 {
		t.Fatal(passed.Load(), "of 1000 tokens were taken")
	}
}
