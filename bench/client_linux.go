package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	clientKey  = "d2VpciBiZW5jaCBjbGllbg==" // one key serves all: nobody caches handshakes
	sseSamples = 10_000                     // connections of an sse run at most; each leaves a port in TIME_WAIT
)

// clients is the client side of a run.
type clients struct {
	run   *load
	hists [phases]hist // latencies; the loop's own until it has ended
	addr  *net.TCPAddr
	dials int // of an sse run
}

func newClients(r *load) *clients {
	cs := &clients{run: r}
	r.down.woken = cs.woken
	return cs
}

// dial opens one connection and begins its handshake. The socket is connected
// before it becomes non-blocking: on loopback that is instant.
func (cs *clients) dial(to *net.TCPAddr, id int) error {
	fd, secured, err := connect(to, cs.run.cell.tls)
	if err != nil {
		return err
	}
	c := &client{sock: sock{l: cs.run.down, fd: fd, tls: secured}, clients: cs, id: id, tunnel: &cs.run.tunnels[id]}
	switch k := cs.run.cell.kind; k {
	case get:
		c.request = []byte("GET /get?size=" + strconv.Itoa(cs.run.cell.size) + " HTTP/1.1\r\nHost: bench\r\n\r\n")
		c.http = true
		cs.run.open.Add(1)
	default:
		path := "/ws/echo"
		if k == push {
			path = "/ws/push"
		}
		if n := cs.run.cell.routes; n > 0 {
			path = fmt.Sprintf("/r%d%s", id%n, path)
		}
		hello := hello(fmt.Sprintf("%s?id=%d", path, id))
		if n, err := c.greet(hello); err != nil || n < len(hello) {
			unix.Close(fd)
			return fmt.Errorf("handshake: %d bytes, %w", n, err)
		}
	}
	cs.run.down.enter(fd, c)
	return nil
}

// hello is a handshake's request.
func hello(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + clientKey + "\r\nSec-WebSocket-Version: 13\r\n\r\n"
}

// greet writes before the loop has the socket.
func (c *client) greet(s string) (int, error) {
	if c.tls == nil {
		return sysWrite(c.fd, []byte(s))
	}
	n, written, err := c.tls.put(c.fd, []byte(s))
	if err == nil && !written {
		err = errors.New("it does not fit an empty socket")
	}
	return n, err
}

func connect(to *net.TCPAddr, secure bool) (fd int, secured *records, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
		return 0, nil, fmt.Errorf("connect to %v: %w", to, err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if secure {
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		if secured, err = shakeHands(fd); err != nil {
			return 0, nil, err
		}
	}
	return fd, secured, unix.SetNonblock(fd, true)
}

// woken is called when the run starts or stops.
func (cs *clients) woken() {
	r := cs.run
	if !r.started.Load() || r.stopping.Load() {
		return
	}
	if r.cell.kind == sse {
		if cs.dials == 0 {
			cs.stream()
		}
		return
	}
	for _, h := range r.down.conns {
		if c, ok := h.(*client); ok && c.waves < r.waves.Load() {
			c.waves++
			if err := c.begin(); err != nil {
				r.down.drop(c.fd, err)
			}
		}
	}
}

// stream opens the next connection of an sse run.
func (cs *clients) stream() {
	if cs.dials >= sseSamples || cs.run.stopping.Load() {
		return
	}
	cs.dials++
	fd, _, err := connect(cs.addr, false)
	if err != nil {
		cs.run.fail(err)
		return
	}
	c := &client{sock: sock{l: cs.run.down, fd: fd}, clients: cs, tunnel: &cs.run.tunnels[0], http: true}
	c.request = []byte("GET /sse HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n")
	if err := cs.run.down.add(fd, c); err != nil {
		cs.run.fail(err)
		return
	}
	if err := c.begin(); err != nil {
		cs.run.down.drop(fd, err)
	}
}

// client is one connection to the proxy.
type client struct {
	sock
	clients *clients
	id      int
	tunnel  *tunnel
	http    bool  // not a WebSocket
	open    bool  // the handshake is over
	waves   int32 // of load.waves that it has begun

	request []byte // HTTP
	want    int64  // bytes of the ring that may be sent
	sent    int64  // bytes that were
	got     int64  // messages or responses that came back
	since   time.Time
}

var errStreamed = errors.New("the first event came") // ends an sse connection

func (c *client) end(err error) {
	if err == errStreamed {
		c.clients.stream()
		return
	}
	if err == io.EOF {
		err = errors.New("the proxy closed the connection")
	}
	if err != nil {
		c.clients.run.fail(fmt.Errorf("tunnel %d: after %d messages: %w", c.id, c.got, err))
	}
}

// begin sends the first messages or request.
func (c *client) begin() error {
	r := c.clients.run
	if r.cell.kind == push {
		return nil
	}
	return c.allow(int64(r.cell.flight))
}

// allow puts n more in flight.
func (c *client) allow(n int64) error {
	c.tunnel.sent.Add(n)
	c.since = time.Now()
	if c.http {
		m, err := c.put(c.request)
		if err == nil && m < len(c.request) {
			err = errors.New("a request does not fit an empty socket")
		}
		return err
	}
	c.want += n * int64(c.clients.run.toServer.frame)
	return c.flush()
}

func (c *client) flush() error {
	if err := c.push(); err != nil {
		return err
	}
	for c.sent < c.want {
		b := c.clients.run.toServer.at(c.sent)
		b = b[:min(int64(len(b)), c.want-c.sent)]
		n, err := c.put(b)
		if err != nil {
			return err
		}
		c.sent += int64(n)
		if n < len(b) {
			return nil
		}
	}
	return nil
}

func (c *client) ready(events uint32) error {
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		b, err := c.fill()
		if err != nil {
			return err
		}
		before := c.got
		switch {
		case c.http:
			b, err = c.responses(b)
		case !c.open:
			b, err = c.handshake(b)
		default:
			b, err = c.frames(b)
		}
		if n := c.got - before; n > 0 {
			if err2 := c.came(n); err == nil {
				err = err2
			}
		}
		if err != nil {
			return err
		}
		if err := c.keep(b); err != nil {
			return err
		}
	}
	if events&unix.EPOLLOUT != 0 {
		return c.flush()
	}
	return nil
}

// came accounts for n messages and sends as many again.
func (c *client) came(n int64) error {
	r := c.clients.run
	r.count.Add(n)
	if p := r.phase.Load(); p != unmeasured && r.cell.flight == 1 {
		c.clients.hists[p].add(time.Since(c.since))
	}
	var err error
	if (r.cell.kind == echo || r.cell.kind == get) && !r.stopping.Load() {
		err = c.allow(n) // before got: drain must not see them equal in between
	}
	c.tunnel.got.Add(n)
	return err
}

func (c *client) handshake(b []byte) ([]byte, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return b, nil
	}
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) || field(b[:end], "sec-websocket-accept") != acceptKey(clientKey) {
		return nil, fmt.Errorf("the handshake was answered with %.300q", b)
	}
	c.open = true
	c.clients.run.open.Add(1)
	return c.frames(b[end+4:])
}

// frames counts and checks what came.
func (c *client) frames(b []byte) ([]byte, error) {
	for {
		h, ok, err := parseHeader(b)
		if err != nil {
			return nil, err
		}
		if !ok || len(b) < h.size+h.length {
			return b, nil
		}
		if h.masked {
			return nil, errors.New("a frame of the server is masked")
		}
		if err := c.clients.run.toClient.check(c.got, h, b[h.size:h.size+h.length]); err != nil {
			return nil, err
		}
		c.got++
		b = b[h.size+h.length:]
	}
}

// responses counts and checks whole HTTP responses, or the first event.
func (c *client) responses(b []byte) ([]byte, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return b, nil
	}
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
		return nil, fmt.Errorf("answered with %.300q", b)
	}
	body := b[end+4:]
	if c.clients.run.cell.kind == sse {
		if !bytes.Contains(body, []byte("data: {\"type\":\"first\"}\n\n")) {
			return b, nil
		}
		c.got++
		return nil, errStreamed
	}
	size := c.clients.run.cell.size
	if n := field(b[:end], "content-length"); n != strconv.Itoa(size) {
		return nil, fmt.Errorf("content-length %q instead of %d in %q", n, size, b[:end])
	}
	switch {
	case len(body) < size:
		return b, nil
	case len(body) > size:
		return nil, fmt.Errorf("%d bytes too many behind a response", len(body)-size)
	case strings.Trim(string(body[:min(size, headBytes)]), "b") != "" || body[size-1] != 'b':
		return nil, fmt.Errorf("the body is not the one that was sent: %.80q", body)
	}
	c.got++
	return nil, nil
}
