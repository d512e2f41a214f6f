package sock

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// lookups are those that are under way, one for each name: whoever needs it waits for
// that. Package net would keep a goroutine for each who has left until a name server that
// does not answer is given up, which may take minutes, and descriptors for each lookup
// that everybody has left.
type lookups struct {
	look func(ctx context.Context, network, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	under map[string]*lookup // by host
}

// names are the lookups of the process.
var names = lookups{look: net.DefaultResolver.LookupNetIP}

// lookFor is how long a lookup goes on at least, whoever began it: three name servers have
// their turn, which are given 5 s each.
const lookFor = 15 * time.Second

// lookup is one of a name.
type lookup struct {
	done  chan struct{} // closed when what follows is set
	found found
	late  bool // its time was over
}

// found are the addresses of a name, the best ones first (RFC 6724).
type found struct {
	ips []netip.Addr
	err error
}

// find returns the addresses of host. Where the time of the lookup is over, one who has
// some left begins another.
func (l *lookups) find(ctx context.Context, host string) ([]netip.Addr, error) {
	for {
		u := l.join(ctx, host)
		select {
		case <-u.done:
			if u.late && ctx.Err() == nil {
				continue
			}
			return u.found.ips, u.found.err
		case <-ctx.Done():
			return nil, &net.DNSError{UnwrapErr: ctx.Err(), Err: "i/o timeout", Name: host, IsTimeout: true}
		}
	}
}

// join returns the lookup of host that is under way, or begins one. It goes on when ctx
// has ended, for who came later or comes next.
func (l *lookups) join(ctx context.Context, host string) *lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.under[host]
	if u != nil {
		return u
	}
	if l.under == nil {
		l.under = map[string]*lookup{}
	}
	u = &lookup{done: make(chan struct{})}
	l.under[host] = u
	end := time.Now().Add(lookFor)
	if due, ok := ctx.Deadline(); ok && due.After(end) {
		end = due
	}
	go func() { // it ends with ctx
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
		defer cancel()
		l.ask(ctx, host, func(f found) {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.under, host)
			u.found, u.late = f, ctx.Err() != nil
			close(u.done)
		})
	}()
	return u
}

// ask tells the addresses of host. Where that takes long, IPv4 and IPv6 are asked for
// beside, each by itself: a name server may answer one of them only (RFC 8305 §3).
func (l *lookups) ask(ctx context.Context, host string, tell func(found)) {
	answers := make(chan found)
	under := 0
	begin := func(network string) {
		under++
		go func() { // joined below
			ips, err := l.look(ctx, network, host)
			answers <- found{ips, err}
		}()
	}
	begin("ip")
	apart := time.NewTimer(alone)
	defer apart.Stop()
	for told := false; under > 0; {
		select {
		case <-apart.C:
			if !told {
				begin("ip4")
				begin("ip6")
			}
		case f := <-answers:
			// The others are waited for: the next lookup has theirs.
			if under--; !told && (f.err == nil || under == 0) {
				told = true
				tell(f)
			}
		}
	}
}
