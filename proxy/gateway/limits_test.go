package gateway

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/proxy/nettest"

	"github.com/coder/websocket"
)

// overLimit checks the envelope of a connection limit of one, which is alike for
// all of them.
func overLimit(t *testing.T, res *http.Response, detail string) {
	t.Helper()
	var p struct {
		Detail        string
		Limit, Actual *int64
	}
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 503 || p.Detail != detail || p.Limit == nil || *p.Limit != 1 || p.Actual == nil || *p.Actual != 1 {
		t.Errorf("%s, %+v, want limit and actual 1 and %q", res.Status, p, detail)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Run("of the process", func(t *testing.T) {
		r := start(t, "[limits]\nmax_connections = 1\n"+plainRoute)
		first := r.ws("/ws")
		_, res := raw(t, r, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		if res.StatusCode != 503 || !res.Close {
			t.Errorf("second: %d, closes: %v", res.StatusCode, res.Close)
		}
		overLimit(t, res, "1 connections are open, max_connections is 1")
		if err := echo(t.Context(), first, "still here"); err != nil {
			t.Error(err)
		}
		_ = first.Close(websocket.StatusNormalClosure, "")
		until(t, "there is room again", func() bool {
			_, res := raw(t, r, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			return res.StatusCode == 200
		})
	})
	t.Run("of an address", func(t *testing.T) {
		r := start(t, "[limits]\nmax_connections_per_ip = 1\n"+plainRoute)
		r.ws("/ws")
		_, res := raw(t, r, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		overLimit(t, res, "1 connections are open from 127.0.0.1, max_connections_per_ip is 1")
	})
	t.Run("not of a trusted proxy", func(t *testing.T) {
		r := start(t, plainRoute)
		r.reload("[server]", "[server]\ntrusted_proxies = [\"127.0.0.1\"]", "[limits]\nmax_connections_per_ip = 1\n"+plainRoute)
		for range 2 {
			if err := echo(t.Context(), r.ws("/ws"), "its clients are many"); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("what is above one counts in none", func(t *testing.T) {
		r := start(t, "[limits]\nmax_connections = 3\nmax_connections_per_ip = 1\n"+plainRoute)
		r.ws("/ws")
		for range 10 { // from the same address, and saying nothing
			nettest.Dial(t, r.g.Addr().String())
		}
		until(t, "they are all counted as above it", func() bool { return r.g.overrun.Load() == 10 })
		other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := other.Dial("tcp", r.g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
			t.Errorf("another address: %v, %v", res, err)
		}
	})
	t.Run("only so many are told", func(t *testing.T) {
		r := start(t, "[limits]\nmax_connections = 1\n"+plainRoute)
		r.ws("/ws")
		for range overrun {
			nettest.Dial(t, r.g.Addr().String())
		}
		until(t, "as many wait to be told as may", func() bool { return r.g.overrun.Load() == overrun })
		c := nettest.Dial(t, r.g.Addr().String())
		if told, err := io.ReadAll(c); len(told) > 0 || err != nil {
			t.Errorf("one more got %q, %v", told, err)
		}
		if n, faults := r.g.overrun.Load(), r.faults(hostabi.TooManyConnections); n != overrun || faults != 1 {
			t.Errorf("%d wait, %v faults", n, faults)
		}
	})
	t.Run("of a route", func(t *testing.T) {
		r := start(t, plainRoute+`
limits = { max_connections = 1 }
[[route]]
name = "other"
path = "/status"
upstream = "demo"
`)
		r.ws("/ws")
		if _, res, _ := r.dial("/ws"); res == nil || res.StatusCode != 503 {
			t.Errorf("second on the route: %v", res)
		}
		_, res := raw(t, r, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		overLimit(t, res, "1 connections are open on route demo, max_connections is 1")
		if status, body := r.get("/status/200"); status != 200 {
			t.Errorf("on the other route: %d %s", status, body)
		}
	})
}

// A full max_memory is told with what it is, and which one: the process's or the
// route's.
func TestMemoryThatIsFullBeginsNoTunnel(t *testing.T) {
	f := func(config, detail string) {
		t.Helper()
		r := start(t, config)
		r.g.mu.Lock()
		memory := r.g.routes["demo"].relay.Memory
		r.g.mu.Unlock()
		if !memory.Reserve(1<<20 - 2000) {
			t.Fatal("no room")
		}
		memory.TakeAside(1000) // frames whose rest is awaited
		r.gauge("weir_queue_bytes", 1046576)
		r.gauge("weir_memory_bytes", 1047576)
		r.g.mu.Lock() // and with it whoever sheds
		r.g.askForShedding()
		until(t, "who sheds is busy", func() bool { return len(r.g.pressure) == 0 })
		_, res, err := r.dial("/ws")
		asked := len(r.g.pressure) > 0
		r.g.mu.Unlock()
		if err == nil {
			t.Fatal("not refused")
		}
		if !asked {
			t.Error("nobody is asked to shed")
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != 503 || !strings.Contains(string(body), detail) || !strings.Contains(string(body), `"limit":983040,"actual":1047576`) {
			t.Errorf("%s: %s", res.Status, body)
		}
		memory.TakeAside(-1000)
		memory.Release(1<<20 - 2000)
		r.gauge("weir_memory_bytes", 0)
		r.ws("/ws")
	}
	const detail = "1047576 bytes are held, above 983040 no tunnel is begun: max_memory is 1048576"
	f("[limits]\nmax_memory = \"1MiB\"\n"+plainRoute, detail)
	f(plainRoute+"limits = { max_memory = \"1MiB\" }\n", detail)
}
