package upstream

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
	"weir/proxy/sock"
)

// used is a connection that an exchange was on, and how its peer sees it end.
func used(t *testing.T) (c *conn, ended <-chan error) {
	t.Helper()
	end := make(chan error, 1)
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.answer("ok")
		end <- p.ended()
	}))
	expectFetch(t, u, request("/", nil), "ok")
	return u.targets[0].shelves[0].pop(), end
}

func TestAShelfKeepsSoManyConnections(t *testing.T) {
	s := shelf{idle: make([]*conn, maxIdle-1)}
	last, _ := used(t)
	defer func() { _ = last.nc.Close() }()
	s.put(last, nil)
	defer s.expire.Stop()
	more, ended := used(t)
	s.put(more, nil)
	if n := s.count(); n != maxIdle {
		t.Errorf("%d kept, want %d", n, maxIdle)
	}
	if err := nettest.Within(t, ended, "the end of what the shelf has no room for"); err != nil {
		t.Error(err)
	}
	if c := s.take(last.idleSince, true); c != last {
		t.Error("the one used last is not taken first")
	}
}

func TestAShelfIsReaped(t *testing.T) {
	var s shelf
	old, ended := used(t)
	s.put(old, nil)
	s.expire.Stop() // and called by hand
	old.idleSince = old.idleSince.Add(-idleExpiry)
	if s.take(old.idleSince.Add(idleExpiry-1), true) != old {
		t.Error("what has been idle for less is not taken")
	}
	s.idle = []*conn{old}
	s.reap()
	if err := nettest.Within(t, ended, "the end of what has been idle for long"); err != nil {
		t.Error(err)
	}
	older, ended := used(t)
	late, endedLate := used(t)
	s.put(older, nil)
	s.put(late, nil)
	if !s.expire.Stop() {
		t.Error("what is kept later is not reaped")
	}
	older.idleSince = older.idleSince.Add(-idleExpiry)
	s.reap()
	nettest.Within(t, ended, "the end of the older of two")
	if !s.expire.Stop() {
		t.Error("the one that is left is not reaped")
	}
	if s.take(late.idleSince.Add(idleExpiry), true) != nil {
		t.Error("what has been idle for long is taken before it is reaped")
		_ = late.nc.Close()
	}
	nettest.Within(t, endedLate, "its end")
}

// What its upstream has closed by then holds no descriptor until idleExpiry.
func TestAShelfIsReapedWhenItsUpstreamCloses(t *testing.T) {
	var s shelf
	brief, ended := used(t)
	lasting, endedToo := used(t)
	brief.keep = 4 * time.Second
	s.put(brief, nil)
	defer s.close()
	s.put(lasting, nil)
	s.mu.Lock()
	brief.idleSince = brief.idleSince.Add(-4 * time.Second)
	lasting.idleSince = lasting.idleSince.Add(-4 * time.Second)
	s.mu.Unlock()
	s.reap()
	if err := nettest.Within(t, ended, "the end of what its upstream keeps for 4 s"); err != nil {
		t.Error(err)
	}
	if n := s.count(); n != 1 {
		t.Errorf("%d are left, want the one that its upstream keeps", n)
	}
	s.close()
	nettest.Within(t, endedToo, "its end")
}

// However long the others on its shelf are kept.
func TestWhatIsKeptForLessIsReapedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		defer s.close()
		for _, keep := range []time.Duration{idleExpiry, 4 * time.Second, 9 * time.Second} {
			s.put(&conn{nc: sock.Wrap(&closable{}), keep: keep}, nil)
		}
		for after, want := range map[time.Duration]int{4 * time.Second: 2, 9 * time.Second: 1, idleExpiry: 0} {
			time.AfterFunc(after, func() {
				synctest.Wait()
				if n := s.count(); n != want {
					t.Errorf("after %v %d are left, want %d", after, n, want)
				}
			})
		}
		time.Sleep(idleExpiry + time.Second)
	})
}

// closable is a connection of which only the end matters.
type closable struct{ net.TCPConn }

func (*closable) Close() error { return nil }

// An upstream that says how long it keeps a connection is sent nothing on it when that
// is nearly over.
func TestWhatAnUpstreamKeepsIsUsedForNoLonger(t *testing.T) {
	for says, keep := range map[string]time.Duration{
		"":                   idleExpiry,
		"timeout=5":          4 * time.Second,
		"max=9, Timeout = 5": idleExpiry, // no such field
		`max=9,TIMEOUT="30"`: 29 * time.Second,
		"timeout=1":          time.Second / 2,
		"timeout=0":          0,
		"timeout=600":        idleExpiry,
		"timeout=-1":         idleExpiry,
		"timeout=99999999":   idleExpiry,
		"timeout":            idleExpiry,
	} {
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 200 OK\r\nKeep-Alive: " + says + "\r\nContent-Length: 2\r\n\r\nok")
			_ = p.ended()
		}))
		expectFetch(t, u, request("/", nil), "ok")
		c := u.targets[0].shelves[0].pop()
		if keep == 0 {
			if c != nil {
				t.Errorf("%q: it is kept", says)
			}
			continue
		}
		if c.open(c.idleSince.Add(keep), false) || !c.open(c.idleSince.Add(keep-1), false) {
			t.Errorf("%q: it is not used for %v", says, keep)
		}
		_ = c.nc.Close()
	}
}

// As a reload closes an upstream that exchanges are still on.
func TestAClosedUpstreamKeepsNothing(t *testing.T) {
	ended := make(chan error, 1)
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 204 No Content\r\n\r\n")
		ended <- p.ended()
	}))
	var resp http1.Response
	e, err := u.Do(request("/", nil), &resp)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	e.Finish(true)
	if err := nettest.Within(t, ended, "the end of the connection"); err != nil {
		t.Error(err)
	}
}

// An exchange on a connection of another loop goes from one to the other each time
// it waits: that is for loops with little to do.
func TestConnectionsOfOtherLoops(t *testing.T) {
	c, _ := used(t)
	defer func() { _ = c.nc.Close() }()
	target := &target{shelves: make([]shelf, 2)}
	target.shelves[1].idle = []*conn{c}
	if target.take(c.idleSince.Add(spareAfter-1), true, nil) != nil {
		t.Error("what was used a moment ago is taken from another loop")
	}
	if target.take(c.idleSince.Add(spareAfter), true, nil) != c {
		t.Error("what is not needed is not taken from another loop")
	}
}

// slow is a connection that takes its time to close.
type slow struct {
	net.TCPConn
	begun, over chan struct{}
}

func (s *slow) Close() error {
	close(s.begun)
	<-s.over
	return nil
}

// To close a thousand connections takes tens of milliseconds, and an exchange on a
// loop may want the shelf meanwhile.
func TestNobodyWaitsForWhatAShelfCloses(t *testing.T) {
	for name, end := range map[string]func(*shelf){"reap": (*shelf).reap, "close": (*shelf).close} {
		t.Run(name, func(t *testing.T) {
			tcp := &slow{begun: make(chan struct{}), over: make(chan struct{})}
			s := &shelf{idle: []*conn{{nc: sock.Wrap(tcp), idleSince: time.Now().Add(-idleExpiry)}}}
			ended, taken := make(chan struct{}), make(chan *conn, 1)
			go func() { end(s); close(ended) }()
			nettest.Within(t, tcp.begun, "the close")
			go func() { taken <- s.pop() }()
			if c := nettest.Within(t, taken, "an exchange's look at the shelf"); c != nil {
				t.Error("what is closed is taken")
			}
			close(tcp.over)
			nettest.Within(t, ended, "the end")
		})
	}
}
