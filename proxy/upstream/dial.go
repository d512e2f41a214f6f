package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"weir/proxy/fd"
	"weir/proxy/poll"
	"weir/proxy/sock"
)

// dial connects to t, with TLS where it has it. waits is called before it waits
// with what ends that from any goroutine.
func (t *target) dial(near *sock.Conn, timeout time.Duration, waits func(cancel func())) (*conn, error) {
	began := time.Now()
	tcp, err := t.connect(near, timeout, waits)
	if err != nil {
		return nil, err
	}
	c := &conn{t: t, nc: sock.Wrap(tcp)}
	if t.tls != nil {
		c.nc = sock.Client(tcp, t.tls)
		c.nc.Bind(taskOf(near))
		waits(func() { _ = tcp.Close() })
		ctx, cancel := context.WithDeadline(context.Background(), began.Add(timeout))
		defer cancel()
		if err := c.nc.Handshake(ctx); err != nil {
			_ = tcp.Close()
			return nil, unshaken(err, tcp.RemoteAddr(), timeout)
		}
	}
	if c.raw, err = c.nc.SyscallConn(); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	c.quiet, _ = c.raw.(fd.Quiet)
	if c.rw = c.nc; t.tls == nil {
		c.quick = fd.New(c.raw, c.beforeRead, c.beforeWrite)
		c.look.Init(c.raw, c)
		c.rw = c.quick
	}
	c.test = c.testFD
	return c, nil
}

// unshaken says of the error of a TLS handshake whose it was.
func unshaken(err error, with net.Addr, timeout time.Duration) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no whole TLS handshake with %v in %v (connect_timeout)", with, timeout)
	case errors.Is(err, io.EOF):
		err = errors.New("the other side closed the connection")
	}
	return fmt.Errorf("TLS handshake with %v: %w", with, err)
}

// connect makes the TCP connection, without keep-alives (see keepAlive).
func (t *target) connect(near *sock.Conn, timeout time.Duration, waits func(cancel func())) (sock.TCP, error) {
	if t.on != nil {
		d := sock.Dialer{Loops: t.on, Near: near, Task: taskOf(near), Timeout: timeout, Waits: waits}
		return d.Dial(t.addr())
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	waits(cancel)
	return sock.DialName(ctx, t.addr())
}

// taskOf is the task that serves a client's connection; nil: a goroutine.
func taskOf(c *sock.Conn) *poll.Task {
	if c == nil {
		return nil
	}
	return c.Task()
}
