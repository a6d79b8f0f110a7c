package publish

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Somebody else writes an object too when what we have written was changed back contestRounds times within contestWithin.
// From then on we write it every contestPause only, so that two writers do not keep the API server busy with nothing else,
// until nobody has changed it for contestQuiet.
const (
	contestRounds = 5
	contestWithin = time.Minute
	contestPause  = 30 * time.Second
	contestQuiet  = 10 * time.Minute
)

// contest finds out whether somebody else writes the same objects: istiod does while ENABLE_CA_SERVER is on.
type contest struct {
	what   string
	now    func() time.Time
	logger *slog.Logger
	tell   func(reason, sentence string)

	mu     sync.Mutex
	rounds map[string]*round // by namespace and name
	said   bool
}

// round is what has happened to one object.
type round struct {
	wanted    string      // what we wrote last
	undone    []time.Time // when we found that changed, newest last
	wrote     time.Time
	contested bool
}

func (p *Publisher) newContest(what string) *contest {
	return &contest{what: what, now: p.config.Now, logger: p.config.Logger, tell: p.tellOwn, rounds: map[string]*round{}}
}

// changedBack notes that an object is not what we want, and returns how long to leave it so; 0 is to write now.
func (c *contest) changedBack(ctx context.Context, object *metav1.ObjectMeta, wanted string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, now := object.Namespace+"/"+object.Name, c.now()
	r := c.rounds[key]
	if r == nil || r.wanted != wanted || now.Sub(r.wrote) > contestQuiet { // ours is the first change, or is news
		c.rounds[key] = &round{wanted: wanted, wrote: now}
		return 0
	}
	if r.contested {
		if wait := contestPause - now.Sub(r.wrote); wait > 0 {
			return wait
		}
		r.wrote = now
		return 0
	}
	r.undone = slices.DeleteFunc(append(r.undone, now), func(t time.Time) bool { return now.Sub(t) > contestWithin })
	r.wrote = now
	if len(r.undone) < contestRounds {
		return 0
	}
	r.contested = true
	c.speak(ctx, object)
	return contestPause
}

// notWritten takes back the last changedBack of an object, which then could not be written: what nobody has written nobody
// has changed back.
func (c *contest) notWritten(object *metav1.ObjectMeta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.rounds[object.Namespace+"/"+object.Name]; r != nil && len(r.undone) > 0 {
		r.undone = r.undone[:len(r.undone)-1]
	}
}

// open counts the objects that somebody else writes too.
func (c *contest) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, r := range c.rounds {
		if r.contested && c.now().Sub(r.wrote) <= contestQuiet {
			n++
		}
	}
	return n
}

// speak says once that there is another writer, and who, as far as the API server knows.
func (c *contest) speak(ctx context.Context, object *metav1.ObjectMeta) {
	if c.said {
		return
	}
	c.said = true
	who := "somebody else"
	var last metav1.Time
	for i := range object.ManagedFields {
		entry := &object.ManagedFields[i]
		if entry.Manager != "" && entry.Manager != managedBy && entry.Time != nil && !entry.Time.Before(&last) {
			who, last = entry.Manager, *entry.Time
		}
	}
	const advice = "one of the two has to stop; istiod does with ENABLE_CA_SERVER=false"
	c.logger.ErrorContext(ctx, "another writer changes an object back again and again", "what", c.what, "object", object.Namespace+"/"+object.Name,
		"writer", who, "advice", advice)
	c.tell("AnotherWriter", c.what+" are changed back again and again by "+who+", as in "+object.Namespace+"/"+object.Name+": "+advice)
}
