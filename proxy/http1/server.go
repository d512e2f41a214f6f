package http1

import (
	"cmp"
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/proxy/crash"
	"weir/proxy/fd"
)

// defaultMaxHeadBytes is what a head may have when Settings do not say.
const defaultMaxHeadBytes = 16 << 10

// Settings bound one request; they are read anew for each.
type Settings struct {
	HeadTimeout  time.Duration // first byte to blank line; also the wait for the first byte of a connection, and in a drain
	IdleTimeout  time.Duration // between requests, and a request body without progress
	WriteTimeout time.Duration // of a client that takes nothing of an answer
	MaxHeadBytes int           // 0: defaultMaxHeadBytes
}

// Server runs connections. All funcs but Handler may be nil.
type Server struct {
	Handler  func(*Exchange)
	Refuse   func(*Exchange, *Error) // writes the answer to a request that could not be read; the connection closes after
	Settings func() Settings
	Panic    func(v any, stack []byte) // Handler panicked: that connection has ended
	Late     *Server                   // serves connections that come after Drain; nil: they are closed

	draining atomic.Bool

	mu    sync.Mutex
	conns map[*conn]struct{}
	empty chan struct{} // closed when conns becomes empty; nil: nobody waits
}

// ServeConn serves nc until it ends or is detached.
func (s *Server) ServeConn(nc net.Conn) {
	c := newConn(s, nc)
	if !s.add(c) {
		if s.Late != nil {
			s.Late.ServeConn(nc)
		} else {
			_ = nc.Close()
		}
		return
	}
	defer s.remove(c)
	s.panicked().Contain(c.serve)
	if !c.detached {
		c.cut()
	}
}

// panicked is who is told of a panic that is not the handler's.
func (s *Server) panicked() crash.Report { return crash.Report(s.Panic) }

// stateFresh is that of a connection by which no request has come; else idle.
const stateFresh = stateEnded + 1

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{nc: nc, rw: nc, srv: s}
	c.state.Store(stateFresh)
	c.looped, _ = nc.(looped)
	c.acks, _ = nc.(acks)
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	if c.raw != nil {
		secure, ok := nc.(interface{ Encrypted() bool })
		_, tcp := nc.(*net.TCPConn)
		c.plain = tcp || ok && !secure.Encrypted()
		if c.plain {
			c.look.Init(c.raw, c)
			c.rw = fd.New(c.raw, c.arm, c.armWrite)
		}
	}
	return c
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Drain closes the connections that are idle behind an answer, answers the others with
// Connection: close and takes no new ones.
func (s *Server) Drain() { s.dismiss(stateIdle) }

// Dismiss is for a while after Drain: it closes also those by which no request has
// come.
func (s *Server) Dismiss() {
	s.dismiss(stateIdle)
	s.dismiss(stateFresh)
}

// dismiss lets nothing begin, and closes what is in state: not where a request has come
// that was not read, since the client would get a reset for an answer.
func (s *Server) dismiss(state uint32) {
	for _, c := range s.in(state) {
		if c.unread() || !c.state.CompareAndSwap(state, stateEnded) {
			continue
		}
		if c.plain && !c.unsent() {
			_ = c.nc.Close()
		} else {
			c.interrupt() // it may take a while until the client has the answer, or the end of TLS
		}
	}
}

// in is what is in state, and lets nothing begin. It closes nothing: whoever serves
// another connection that ends waits for the lock.
func (s *Server) in(state uint32) (found []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	for c := range s.conns {
		if c.state.Load() == state {
			found = append(found, c)
		}
	}
	return found
}

// Close ends every connection at once, but for the detached ones.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	for c := range s.conns {
		c.state.Store(stateEnded)
		c.cut()
	}
}

// Requests is how many requests are under way.
func (s *Server) Requests() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.state.Load() == stateActive {
			n++
		}
	}
	return n
}

// Wait returns when every ServeConn has, or with ctx's error.
func (s *Server) Wait(ctx context.Context) error {
	s.mu.Lock()
	if len(s.conns) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve is the life of a connection: wait, read, handle, end.
func (c *conn) serve() {
	defer func() {
		if !c.detached {
			c.dropReader()
		}
	}()
	for first := true; ; first = false {
		var set Settings
		if c.srv.Settings != nil {
			set = c.srv.Settings()
		}
		if set.MaxHeadBytes <= 0 {
			set.MaxHeadBytes = defaultMaxHeadBytes
		}
		c.writeLimit = set.WriteTimeout
		idle := cmp.Or(c.idleLimit, set.IdleTimeout)
		if first || c.srv.draining.Load() {
			idle = set.HeadTimeout
		}
		c.idleLimit = 0
		c.wait(idle, false)
		if !c.await(&set) {
			if first { // a TLS handshake may be to blame
				c.endTLS()
			} else {
				c.depart()
			}
			return
		}
		if !c.exchange(&set) {
			return
		}
		c.resume()
		switch {
		case c.br != nil && c.br.Buffered() > 0: // the next request is here, and nobody may take the connection for idle
		case !c.state.CompareAndSwap(stateActive, stateIdle):
			c.depart()
			return
		case c.srv.draining.Load() && !c.asked(): // since the answer began
			c.depart()
			return
		}
	}
}

// asked tells, in a drain, whether a request has come that was not told of it, and has
// until Dismiss to be whole.
func (c *conn) asked() bool {
	return c.unread() && c.state.CompareAndSwap(stateIdle, stateFresh)
}

// exchange reads one request and has it answered; true: the connection can take
// another one.
func (c *conn) exchange(set *Settings) bool {
	x := newExchange(c)
	c.wait(set.HeadTimeout, false)
	if err := x.readHead(set.MaxHeadBytes); err != nil {
		c.refuse(x, err)
		return false
	}
	if c.plain && x.Body == nil && c.br.Buffered() == 0 {
		c.dropReader() // a long answer holds no reader
	}
	c.wait(set.IdleTimeout, true)
	if !c.call(x, nil) || c.detached {
		return false
	}
	again := x.end()
	x.release()
	return again
}

// call calls Handler, or Refuse with what was wrong; false: it panicked, which
// ends this connection only. What it held is left to the collector, since
// someone may still use it.
func (c *conn) call(x *Exchange, refusal *Error) (ok bool) {
	defer func() {
		if ok {
			return
		}
		v := recover()
		c.br = nil
		c.cut()
		if c.srv.Panic != nil {
			c.srv.Panic(v, debug.Stack())
		}
	}()
	if refusal != nil {
		c.srv.Refuse(x, refusal)
	} else {
		c.srv.Handler(x)
	}
	return true
}

// refuse answers a request that could not be read, when there is someone to
// answer, and ends the connection.
func (c *conn) refuse(x *Exchange, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok && isTimeout(err) {
		e, ok = &Error{Status: 408, Reason: "no whole head in " + c.limit.String()}, true
	}
	if ok {
		x.close = true
		if c.srv.Refuse != nil && !c.call(x, e) {
			return
		}
		if !x.started {
			_ = x.Respond(e.Status, "", nil)
		}
		if x.finished && x.err == nil {
			c.linger()
		}
	}
	x.release()
}

// readHead reads a head.
func (x *Exchange) readHead(maxBytes int) error {
	br := x.c.br
	switch b, _ := br.Peek(1); {
	case b[0] == '\r' || b[0] == '\n':
		return bad(1, "an empty line before the request line")
	case class[b[0]]&tchar == 0:
		return bad(1, "a request that begins with something else than a method")
	}
	head, err := ReadHead(br, maxBytes)
	if err != nil {
		return err
	}
	if x.Info, err = x.Req.Parse(head); err != nil {
		return err
	}
	_, _ = br.Discard(len(head))
	if x.Info.HasBody() {
		x.body.resetRequest(x, br)
		x.Body = &x.body
		x.expecting.Store(x.Info.Expect100)
	}
	return nil
}
