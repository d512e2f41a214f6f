package stream

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
	"weir/proxy/policy"
	"weir/proxy/poll"
	"weir/proxy/sock"
	"weir/proxy/upstream"
)

// turns is nobody's socket on a loop, where calls are counted.
type turns struct{}

func (turns) Ready(func(), poll.Events) poll.Turn { return poll.Short }

// One read brings five thousand chunks of a byte: 64 upstreams that sent such had a lone
// request wait for 98 ms, and 1 ms since others have turns between.
func TestManyChunksOfOneReadAreNoOneTurn(t *testing.T) {
	const chunks = 5000
	addr := script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", chunks) + "0\r\n\r\n")
	})
	loops, err := poll.New(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer loops.Close()
	up, err := upstream.New(&config.Upstream{URLs: []string{"http://" + addr}}, upstream.Options{Loops: loops})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	beside := loops.Add(-1, nil, turns{})
	defer beside.Remove()
	var x *http1.Exchange // on the loop, as what follows
	between, over, ended := 0, false, make(chan struct{})
	var look func(func())
	look = func(func()) {
		switch {
		case over:
			close(ended)
			return
		case x != nil && x.BytesWritten() > 0:
			between++
		}
		beside.Call(look)
	}
	beside.Call(look)
	route := &Route{Name: "r", View: (*policy.Policy)(nil).View("r"), Upstream: up}
	srv := &http1.Server{
		Handler: func(served *http1.Exchange) {
			x = served
			(&Proxy{}).Serve(x, route, Client{}, NewRequestID(&x.Req, false))
			x = nil
		},
		Settings: func() http1.Settings { return http1.Settings{} },
	}
	listener := nettest.Listen(t)
	l, err := sock.Listen(loops, listener, func(s *sock.Socket, leave func()) {
		loops.NewTask(func(task *poll.Task) {
			c := sock.Wrap(s)
			c.Bind(task)
			srv.ServeConn(c)
			over = true
		}).Resume(leave)
	}, func(error) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := newPeer(t, nc)
	p.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil || body.Len() != chunks {
		t.Errorf("%d bytes, %v", body.Len(), err)
	}
	<-ended
	if between == 0 {
		t.Error("it was all one turn")
	}
}
