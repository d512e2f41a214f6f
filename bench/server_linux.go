package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// server is the upstream of a run.
type server struct {
	run     *load
	port    int
	waiting []*upstreamConn // pushing, and a window ahead of their clients
	quiet   atomic.Bool     // no push is in the middle of a message, and none will begin
	pushing int
	bodies  map[int][]byte // whole responses by body size
}

func newServer(r *load) (*server, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	s := &server{run: r, port: sa.(*unix.SockaddrInet4).Port, bodies: map[int][]byte{}}
	if r.cell.kind == push {
		r.up.tick = s.tick
	}
	return s, r.up.add(fd, &listener{s, fd})
}

// tick resumes pushes whose clients have caught up.
func (s *server) tick() {
	waiting := s.waiting
	s.waiting = nil
	for _, c := range waiting {
		if s.run.up.conns[c.fd] != handler(c) {
			continue
		}
		c.parked = false
		if err := c.pump(); err != nil {
			s.run.up.drop(c.fd, err)
		}
	}
	// When stopping, whoever is not waiting is still in the middle of a message.
	s.quiet.Store(s.run.stopping.Load() && len(s.waiting) == s.pushing)
}

type listener struct {
	server *server
	fd     int
}

func (l *listener) ready(uint32) error {
	for {
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN {
			return nil
		}
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return fmt.Errorf("upstream accept: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		up := l.server.run.up
		if err := up.add(fd, &upstreamConn{sock: sock{l: up, fd: fd}, server: l.server}); err != nil {
			return err
		}
	}
}

func (l *listener) end(err error) {
	if err != nil {
		l.server.run.fail(err)
	}
}

// upstreamConn is a connection from the proxy: HTTP first, a WebSocket when it
// was upgraded.
type upstreamConn struct {
	sock
	server *server
	mode   kind // echo, push and flood: a WebSocket; "": still HTTP
	tunnel *tunnel
	parked bool // in server.waiting

	got  int64  // messages received
	sent int64  // bytes of the ring that were written
	out  []byte // HTTP bytes to be written
}

func (c *upstreamConn) end(err error) {
	if c.mode == push {
		c.server.pushing--
	}
	// The proxy may end its connections as it likes; what is lost by it is
	// missed by the client.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		c.server.run.fail(fmt.Errorf("upstream: %w", err))
	}
}

func (c *upstreamConn) ready(events uint32) error {
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		b, err := c.fill()
		if err != nil {
			return err
		}
		switch c.mode {
		case "":
			b, err = c.http(b)
		case flood: // whatever the client says, or the proxy for it
			b = nil
		default:
			b, err = c.frames(b)
		}
		if err != nil {
			return err
		}
		if err := c.keep(b); err != nil {
			return err
		}
	}
	if f := c.server.run.flood; c.mode == flood && c.l != f {
		if err := c.l.forget(c.fd); err != nil {
			return err
		}
		c.l, c.armed = f, false
		f.enter(c.fd, c) // which has it from here on, and pumps
		return nil
	}
	return c.pump()
}

// gush pushes without end and without looking at the client.
func (c *upstreamConn) gush() error {
	b := c.server.run.toClient.at(c.sent)
	n, err := c.put(b)
	c.sent += int64(n)
	c.server.run.flooded.Add(int64(n))
	if err != nil {
		return err
	}
	return c.arm(true) // again at once, but after the others
}

// frames counts and checks what the client sent.
func (c *upstreamConn) frames(b []byte) ([]byte, error) {
	for {
		h, ok, err := parseHeader(b)
		if err != nil {
			return nil, err
		}
		if !ok || len(b) < h.size+h.length {
			return b, nil
		}
		if !h.masked {
			return nil, errors.New("a frame of the client is not masked")
		}
		if h.op == opPing {
			return nil, errors.New("a ping, which peers/weir.toml should have switched off")
		}
		if err := c.server.run.toClient.check(c.got, h, b[h.size:h.size+h.length]); err != nil {
			if h.op == opClose && c.server.run.ending.Load() {
				return nil, io.EOF
			}
			return nil, err
		}
		c.got++
		b = b[h.size+h.length:]
	}
}

// pump writes what may be written now.
func (c *upstreamConn) pump() error {
	if len(c.out) > 0 {
		n, err := c.put(c.out)
		if err != nil {
			return err
		}
		if c.out = c.out[:copy(c.out, c.out[n:])]; len(c.out) > 0 {
			return nil
		}
	}
	switch c.mode {
	case "":
		return nil
	case flood:
		return c.gush()
	}
	r := c.server.run.toClient
	frame := int64(r.frame)
	for {
		may := c.got * frame
		if c.mode == push {
			may = c.pushTo(frame)
		}
		if c.sent >= may {
			if c.mode == push {
				c.park()
			}
			return nil
		}
		b := r.at(c.sent)
		b = b[:min(int64(len(b)), may-c.sent)]
		n, err := c.put(b)
		if err != nil {
			return err
		}
		c.sent += int64(n)
		if c.mode == push {
			c.tunnel.sent.Store((c.sent + frame - 1) / frame)
		}
		if n < len(b) {
			return nil
		}
	}
}

// park has tick call pump again.
func (c *upstreamConn) park() {
	if !c.parked {
		c.parked = true
		c.server.waiting = append(c.server.waiting, c)
	}
}

// pushTo is up to which byte may be pushed: a window ahead of the client, and
// once the run is stopping to the end of the message that was begun.
func (c *upstreamConn) pushTo(frame int64) int64 {
	switch r := c.server.run; {
	case r.stopping.Load():
		return (c.sent + frame - 1) / frame * frame
	case !r.started.Load():
		return 0
	default:
		return (c.tunnel.got.Load() + r.cell.window(frame)) * frame
	}
}

// http answers every whole request.
func (c *upstreamConn) http(b []byte) ([]byte, error) {
	for {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return b, nil
		}
		if err := c.answer(b[:end+2]); err != nil {
			return nil, err
		}
		b = b[end+4:]
		if c.mode != "" {
			return c.frames(b)
		}
	}
}

func (c *upstreamConn) answer(head []byte) error {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return fmt.Errorf("request line %q", line)
	}
	u, err := url.ParseRequestURI(string(parts[1]))
	if err != nil {
		return err
	}
	size, _ := strconv.Atoi(u.Query().Get("size"))
	path := u.Path
	if strings.HasPrefix(path, "/r") { // by which route
		_, path, _ = strings.Cut(path[1:], "/")
		path = "/" + path
	}
	switch path {
	case "/get":
		c.out = append(c.out, c.server.body(size)...)
	case "/sse":
		const event = "data: {\"type\":\"first\"}\n\n"
		c.out = fmt.Appendf(c.out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(event), event)
	case "/ws/echo", "/ws/push", "/ws/flood":
		id, _ := strconv.Atoi(u.Query().Get("id"))
		key := field(fields, "sec-websocket-key")
		if id < 0 || id >= len(c.server.run.tunnels) || key == "" {
			return fmt.Errorf("handshake %q", head)
		}
		c.mode, c.tunnel = echo, &c.server.run.tunnels[id]
		switch path {
		case "/ws/push":
			c.mode = push
			c.server.pushing++
		case "/ws/flood":
			c.mode = flood
		}
		c.out = fmt.Appendf(c.out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: %s\r\n\r\n", acceptKey(key))
	default:
		return fmt.Errorf("request for %s", u.Path)
	}
	return nil
}

func (s *server) body(size int) []byte {
	if s.bodies[size] == nil {
		b := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
		s.bodies[size] = append(b, bytes.Repeat([]byte{'b'}, size)...)
	}
	return s.bodies[size]
}

// acceptKey is Sec-WebSocket-Accept, RFC 6455 §4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// field is the value of a header field, "" when it is absent. The name is in
// lower case.
func field(fields []byte, name string) string {
	for line := range bytes.SplitSeq(fields, []byte("\r\n")) {
		k, v, ok := bytes.Cut(line, []byte(":"))
		if ok && len(k) == len(name) && string(bytes.ToLower(k)) == name {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}
