//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// node is a process that runs node/driver.js: clients and backends made of the
// ws package and of Node's own http.
type node struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu     sync.Mutex
	peers  map[int]*peer
	nextID int
}

// event is one line that the driver writes.
type event struct {
	ID                   int
	Ev                   string
	Text                 string
	Size                 int
	Binary               bool
	SHA256               string
	Code, Status         int
	Protocol, Extensions string
	Headers              map[string][]string
	URL                  string
	Port, Peer           int
}

func (e event) header(name string) string { return strings.Join(e.Headers[name], ", ") }

func (e event) String() string {
	b, _ := json.Marshal(e)
	return fmt.Sprintf("%s %.300s", e.Ev, b)
}

// peer is one socket, server or request of a node.
type peer struct {
	n      *node
	id     int
	opened event // what it began with: open, or connection at a server

	mu     sync.Mutex
	events []event
	more   chan struct{} // closed when there is another one
}

func startNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, peers: map[int]*peer{}}
	n.cmd = exec.Command("node", "driver.js")
	n.cmd.Dir, n.cmd.Stderr = "node", os.Stderr
	var err error
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := n.cmd.StdoutPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { // ends with the process
		defer close(gone)
		for sc := bufio.NewReader(stdout); ; {
			text, err := sc.ReadBytes('\n')
			var e event
			if err != nil || json.Unmarshal(text, &e) != nil {
				break
			}
			n.peer(e.ID).add(e)
		}
		_ = n.cmd.Wait()
	}()
	t.Cleanup(func() {
		n.kill()
		<-gone
	})
	return n
}

// kill is kill -9.
func (n *node) kill() { _ = n.cmd.Process.Kill() }

// peer returns the peer with this id.
func (n *node) peer(id int) *peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[id]
	if p == nil {
		p = &peer{n: n, id: id, more: make(chan struct{})}
		n.peers[id] = p
	}
	return p
}

func (n *node) new() *peer {
	n.mu.Lock()
	n.nextID++
	id := n.nextID
	n.mu.Unlock()
	return n.peer(id)
}

// args are the further fields of a command.
type args map[string]any

func (p *peer) do(op string, a args) {
	p.n.t.Helper()
	line := map[string]any{"op": op, "id": p.id}
	for k, v := range a {
		line[k] = v
	}
	b, err := json.Marshal(line)
	if err == nil {
		p.n.mu.Lock()
		_, err = p.n.stdin.Write(append(b, '\n'))
		p.n.mu.Unlock()
	}
	if err != nil {
		p.n.t.Fatal(err)
	}
}

func (p *peer) add(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
	close(p.more)
	p.more = make(chan struct{})
}

// any returns the next event.
func (p *peer) any() event {
	p.n.t.Helper()
	for over := time.After(patience); ; {
		p.mu.Lock()
		more := p.more
		if len(p.events) > 0 {
			e := p.events[0]
			p.events = p.events[1:]
			p.mu.Unlock()
			return e
		}
		p.mu.Unlock()
		select {
		case <-more:
		case <-over:
			p.n.t.Fatalf("waited %v for an event of socket %d", patience, p.id)
		}
	}
}

// next returns the next event, which must be of this kind.
func (p *peer) next(kind string) event {
	p.n.t.Helper()
	e := p.any()
	if e.Ev != kind {
		p.n.t.Fatalf("socket %d: got %v, want %s", p.id, e, kind)
	}
	return e
}

// message returns the text of the next event, which must be a message.
func (p *peer) message() string {
	p.n.t.Helper()
	return p.next("message").Text
}

// quiet fails when something has come that nobody asked for.
func (p *peer) quiet() {
	p.n.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) > 0 {
		p.n.t.Errorf("socket %d: got %v, want nothing", p.id, p.events[0])
	}
}

// closed waits for the close and returns its code and reason; what else comes
// before it is skipped.
func (p *peer) closed() (code int, reason string) {
	p.n.t.Helper()
	for {
		if e := p.any(); e.Ev == "close" {
			return e.Code, e.Text
		}
	}
}

func (p *peer) send(text string) { p.n.t.Helper(); p.do("send", args{"text": text}) }
func (p *peer) sendSized(prefix string, size int, suffix string) {
	p.n.t.Helper()
	p.do("send", args{"text": prefix, "size": size, "suffix": suffix})
}

func (p *peer) pause() {
	p.n.t.Helper()
	p.do("pause", nil)
	p.next("paused")
}

// open dials, and does not wait.
func (n *node) open(url string, a args) *peer {
	n.t.Helper()
	p := n.new()
	more := args{"url": url}
	for k, v := range a {
		more[k] = v
	}
	p.do("dial", more)
	return p
}

// dial opens a WebSocket.
func (n *node) dial(url string, a args) *peer {
	n.t.Helper()
	p := n.open(url, a)
	p.opened = p.next("open")
	return p
}

// refused dials where it must be refused, with this status.
func (n *node) refused(url string, a args, status int) event {
	n.t.Helper()
	e := n.open(url, a).next("refused")
	if e.Status != status {
		n.t.Fatalf("refused with %v, want status %d", e, status)
	}
	return e
}

// server is a backend in Node.
type server struct {
	*peer
	url string
}

// serve starts a backend; echo: true returns what it is sent.
func (n *node) serve(a args) *server {
	n.t.Helper()
	s := &server{peer: n.new()}
	s.do("serve", a)
	scheme := "http"
	if a["key"] != nil {
		scheme = "https"
	}
	s.url = fmt.Sprintf("%s://127.0.0.1:%d", scheme, s.next("listening").Port)
	return s
}

// accept returns the next socket that the server accepted.
func (s *server) accept() *peer {
	s.n.t.Helper()
	e := s.next("connection")
	p := s.n.peer(e.Peer)
	p.opened = e
	return p
}

// pair is a tunnel from a ws client to a ws server that only does what it is
// told.
func (n *node) pair(g *gateway, s *server, a args) (client, upstream *peer) {
	n.t.Helper()
	client = n.dial(g.ws("/"), a)
	return client, s.accept()
}
