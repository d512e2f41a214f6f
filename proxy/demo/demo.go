// Package demo is the embedded demonstration backend: a small upstream on
// loopback that a route with urls = ["demo:"] is proxied to.
package demo

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"weir/proxy/crash"
)

// Demo is a running backend. It owns its listener, every connection and every
// goroutine that serves one; Close ends and joins them all.
type Demo struct {
	log *slog.Logger

	panicked crash.Report
	server   fasthttp.Server
	ln       net.Listener
	done     chan struct{} // closed by Close before anything else: waits end

	mu     sync.Mutex
	closed bool           // guarded by mu: nothing is added to conns or wg after it
	conns  map[*conn]bool // guarded by mu

	wg sync.WaitGroup // the accept loop, and for each connection its goroutine and its conn
}

// Start listens on a free loopback port and serves until Close. panicked is told
// of panics, each of which ends its connection.
func Start(log *slog.Logger, panicked crash.Report) (*Demo, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("demo backend: %w", err)
	}
	return serveOn(ln, log, panicked), nil
}

// serveOn is Start on a listener, which the backend closes.
func serveOn(ln net.Listener, log *slog.Logger, panicked crash.Report) *Demo {
	d := &Demo{log: log, panicked: panicked, ln: ln, done: make(chan struct{}), conns: map[*conn]bool{}}
	d.server = fasthttp.Server{
		Handler:                      d.handle,
		Name:                         "weir-demo",
		Logger:                       serverLog{log},
		StreamRequestBody:            true, // bodies are echoed as they arrive
		DisablePreParseMultipartForm: true,
		ErrorHandler:                 unreadable,
		NoDefaultDate:                true, // the date needs a goroutine that nobody can join
		CloseOnShutdown:              true,
	}
	d.wg.Go(d.accept)
	return d
}

// Addr is the host:port that the backend listens on.
func (d *Demo) Addr() string { return d.ln.Addr().String() }

// Close stops listening, cuts every connection, WebSocket ones too, and
// returns when nothing of the backend runs any more.
func (d *Demo) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		d.wg.Wait()
		return nil
	}
	d.closed = true
	close(d.done)
	err := d.ln.Close()
	for c := range d.conns {
		c.cut()
	}
	d.mu.Unlock()
	d.wg.Wait()
	return err
}

// acceptPause is how long accepting pauses when it fails, as for want of descriptors.
const acceptPause = 100 * time.Millisecond

// accept ends with Close.
func (d *Demo) accept() {
	for {
		nc, err := d.ln.Accept()
		if err != nil {
			select {
			case <-d.done:
				return
			case <-time.After(acceptPause):
			}
			d.log.Error("demo backend cannot accept a connection", "error", err)
			continue
		}
		c := &conn{Conn: nc, demo: d}
		if !d.add(c) {
			nc.Close()
			return
		}
		d.wg.Go(func() { d.serve(c) })
	}
}

// serve is one connection until it ends or is hijacked.
func (d *Demo) serve(c *conn) {
	ok := d.panicked.Contain(func() {
		if err := d.server.ServeConn(c); err != nil {
			d.log.Debug("demo connection ended", "error", err)
		}
	})
	if !ok {
		c.Close()
	}
}

func (d *Demo) add(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.conns[c] = true
	d.wg.Add(1) // released by conn.Close
	return true
}

// conn is a connection that Demo knows of until fasthttp closes it, which it
// does last of all, after a hijack handler too.
type conn struct {
	net.Conn
	demo *Demo
	once sync.Once
}

// cut ends the socket: reads and writes in progress fail at once. Whoever
// serves the connection still calls Close.
func (c *conn) cut() { _ = c.Conn.Close() }

// Close ends the socket and lets Demo.Close stop waiting for it.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.demo.mu.Lock()
		delete(c.demo.conns, c)
		c.demo.mu.Unlock()
		c.demo.wg.Done()
	})
	return err
}

// serverLog carries fasthttp's remarks to the log.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Printf(format string, args ...any) {
	l.log.Debug("demo backend: " + fmt.Sprintf(format, args...))
}
