package sock

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// resolver is a fake of package net's: it answers for each network after a time, or
// never.
type resolver struct {
	after map[string]time.Duration
	asked atomic.Int32
}

func (r *resolver) look(ctx context.Context, network, _ string) ([]netip.Addr, error) {
	r.asked.Add(1)
	after, ok := r.after[network]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(after):
	}
	if network == "ip6" {
		return nil, errors.New("no such host")
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// However many come and go while a name server does not answer, one lookup is under way,
// and nothing waits for those who have left.
func TestWhoLeavesALookupLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resolver{}
		l := lookups{look: r.look}
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			left := make(chan error)
			for range 2 {
				go func() {
					_, err := l.find(ctx, "a.test")
					left <- err
				}()
			}
			synctest.Wait()
			cancel()
			for range 2 {
				if err := <-left; !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
		}
		if n := r.asked.Load(); n != 1 {
			t.Errorf("%d lookups", n)
		}
		time.Sleep(2 * time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.under["a.test"] != nil {
			t.Error("it goes on")
		}
	})
}

// A lookup outlasts the time of who began it: where the first name server is down, the
// second has its turn after 5 s, and nobody else would ever get there.
func TestALookupGoesOnForWhoHasTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = 6 * time.Second
		r := resolver{after: map[string]time.Duration{"ip": after, "ip4": after, "ip6": after}}
		l := lookups{look: r.look}
		var found atomic.Int32
		for range 5 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if ips, err := l.find(ctx, "a.test"); err == nil && len(ips) == 1 {
					found.Add(1)
				}
			}()
			time.Sleep(1100 * time.Millisecond)
		}
		time.Sleep(time.Minute) // what was asked beside is waited for
		if n := found.Load(); n != 4 {
			t.Errorf("%d of 5 found the name", n)
		}
	})
}

func TestWhoHasTimeLeftAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never, at := resolver{}, resolver{after: map[string]time.Duration{"ip": 0}}
		l := lookups{look: func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			if never.asked.Load() < 3 {
				return never.look(ctx, network, host)
			}
			return at.look(ctx, network, host)
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = l.find(ctx, "a.test")
		ctx, cancel = context.WithTimeout(t.Context(), lookFor)
		defer cancel()
		if ips, err := l.find(ctx, "a.test"); err != nil || len(ips) != 1 {
			t.Errorf("%v, %v", ips, err)
		}
		time.Sleep(time.Minute) // what was asked beside is waited for
	})
}

func TestOneFamilyIsEnough(t *testing.T) {
	for name, c := range map[string]struct {
		after map[string]time.Duration
		want  bool
		asked int32
	}{
		"both at once":        {map[string]time.Duration{"ip": 0}, true, 1},
		"both, slowly":        {map[string]time.Duration{"ip": 2 * time.Second, "ip4": 3 * time.Second, "ip6": time.Second}, true, 3},
		"IPv6 never":          {map[string]time.Duration{"ip4": time.Millisecond}, true, 3},
		"neither":             {nil, false, 3},
		"IPv4 never, no IPv6": {map[string]time.Duration{"ip6": time.Millisecond}, false, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := resolver{after: c.after}
			l := lookups{look: r.look}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			ips, err := l.find(ctx, "a.test")
			if got := err == nil; got != c.want || got != slices.Contains(ips, netip.MustParseAddr("127.0.0.1")) {
				t.Errorf("%s: %v, %v", name, ips, err)
			}
			if n := r.asked.Load(); n != c.asked {
				t.Errorf("%s: asked %d times", name, n)
			}
			time.Sleep(time.Minute) // what was asked beside is waited for
		})
	}
}
