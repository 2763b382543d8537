package ratelimit

import (
	"container/list"
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// buckets are the clients', in shards with a lock each: requests of different
// clients run in different threads and seldom meet.
type buckets struct {
	rate, burst float64
	seed        maphash.Seed
	shards      [64]shard
}

type shard struct {
	mutex  sync.Mutex
	room   int
	byName map[string]*list.Element
	byUse  list.List // of *bucket, the one not used for longest at the back
}

type bucket struct {
	name   string
	tokens float64
	at     time.Time // when there were so many
}

func newBuckets(rate, burst float64, clients int) *buckets {
	b := &buckets{rate: rate, burst: burst, seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].room = (clients + len(b.shards) - 1) / len(b.shards)
		b.shards[i].byName = make(map[string]*list.Element)
	}
	return b
}

// take takes a token; 0, or how long until there is one.
func (b *buckets) take(client string, now time.Time) time.Duration {
	shard := &b.shards[maphash.String(b.seed, client)%uint64(len(b.shards))]
	shard.mutex.Lock()
	defer shard.mutex.Unlock()
	bucket := shard.bucket(client, b.burst, now)
	if passed := now.Sub(bucket.at).Seconds(); passed > 0 {
		bucket.tokens = math.Min(b.burst, bucket.tokens+passed*b.rate)
		bucket.at = now
	}
	if bucket.tokens >= 1 {
		bucket.tokens--
		return 0
	}
	return time.Duration(math.Ceil((1 - bucket.tokens) / b.rate * float64(time.Second)))
}

// bucket finds the client's, or makes a full one; past the limit the one that
// was not used for longest is forgotten. It is the one most likely to be full,
// that is, no different from a new one.
func (s *shard) bucket(client string, burst float64, now time.Time) *bucket {
	if element, known := s.byName[client]; known {
		s.byUse.MoveToFront(element)
		return element.Value.(*bucket)
	}
	if s.byUse.Len() >= s.room {
		oldest := s.byUse.Back()
		delete(s.byName, oldest.Value.(*bucket).name)
		s.byUse.Remove(oldest)
	}
	made := &bucket{name: client, tokens: burst, at: now}
	s.byName[client] = s.byUse.PushFront(made)
	return made
}
