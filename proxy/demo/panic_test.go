package demo

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// badConn panics when it is read.
type badConn struct{ net.Conn }

func (badConn) Read([]byte) (int, error) { panic("made to") }

// badWriter panics behind the answer to the handshake.
type badWriter struct {
	net.Conn
	written *int
}

func (w badWriter) Write(b []byte) (int, error) {
	if *w.written++; *w.written > 1 {
		panic("made to")
	}
	return w.Conn.Write(b)
}

// A panic in a connection, or in the stream of a socket, ends that one; the
// backend goes on, and Close still joins everything.
func TestPanicsEndTheirConnection(t *testing.T) {
	told := make(chan string, 10)
	d, err := Start(slog.New(slog.DiscardHandler), func(_ any, stack []byte) { told <- string(stack) })
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	pipe := func() (near, far net.Conn) {
		near, far = net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		return near, far
	}

	near, far := pipe()
	c := &conn{Conn: badConn{near}, demo: d}
	d.add(c)
	d.wg.Go(func() { d.serve(c) })
	if stack := <-told; !strings.Contains(stack, "badConn") {
		t.Error(stack)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection: %v", err)
	}

	near, far = pipe()
	written := 0
	c = &conn{Conn: badWriter{near, &written}, demo: d}
	d.add(c)
	d.wg.Go(func() { d.serve(c) })
	go func() { // the pipe takes nothing by itself
		_, _ = io.WriteString(far, "GET /ws?rate=1000 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	}()
	head, err := io.ReadAll(far) // until it is cut
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		t.Errorf("%q, %v", head, err)
	}
	if stack := <-told; !strings.Contains(stack, "(*socket).stream") {
		t.Error(stack)
	}

	resp, err := http.Get("http://" + d.Addr() + "/status/204")
	if err != nil || resp.StatusCode != 204 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if len(told) > 0 {
		t.Errorf("and %s", <-told)
	}
}
