//go:build !race

package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
	"weir/hostabi/wasmhost/wasmtest"
	"weir/proxy/nettest"
)

// Clients decide how many wait for a policy at once, and nothing counts what they take
// meanwhile: each has its request and its own stack, and no loop's; what a call needs
// is made when there is an instance.
func TestWhoWaitsForAPolicyHoldsLittle(t *testing.T) {
	const crowd, query = 300, 8 << 10
	const most = 20 << 10                                                                                                // beside the query
	long := wasmtest.Join([]byte{wasm.OpLocalGet, 0}, wasmtest.I32(5*query/4), []byte{0x4b, wasm.OpIf, wasm.BlockEmpty}, // i32.gt_u
		wasmtest.Forever, []byte{wasm.OpEnd}, wasmtest.I64(0))
	module := filepath.Join(t.TempDir(), "long.wasm")
	if err := os.WriteFile(module, wasmtest.NewGuest().Only(hostabi.Admit).Hook(hostabi.Admit, long).Build(), 0o600); err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	r := start(t, fmt.Sprintf("[upstream.u]\nurls = [%q]\n[policy.p]\nmodule = %q\n[[route]]\nupstream = \"u\"\npolicy = \"p\"\n", upstream.URL, module))
	instances := r.g.current.Load().policies["p"].part.Info().Instances
	conns := make([]*net.TCPConn, crowd+2*instances)
	for i := range conns {
		conns[i] = nettest.Dial(t, r.g.Addr().String())
	}
	until(t, "all are there", func() bool { return goroutinesIn("http1.(*conn).await") == len(conns) })
	ask := func(c *net.TCPConn, query int) {
		if _, err := c.Write([]byte("GET /?" + strings.Repeat("q", query) + " HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns[crowd:] {
		ask(c, 3*query/2)
	}
	until(t, "every instance is taken", func() bool { return goroutinesIn("wasmhost.(*instance).run") == instances })
	before := held()
	for _, c := range conns[:crowd] {
		ask(c, query)
	}
	until(t, "all wait", func() bool { return goroutinesIn("wasmhost.(*Module).take") >= crowd })
	if n, most := goroutinesIn("poll.(*loop).run"), r.g.loops.Loops()+instances; n > most {
		t.Errorf("%d goroutines are a loop or have left one, of at most %d", n, most)
	}
	if each := (held()-before)/crowd - query; each > most {
		t.Errorf("who waits holds %d bytes beside its query, of at most %d", each, most)
	}
	for _, c := range conns[:crowd] {
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(c, status); err != nil || string(status) != "HTTP/1.1 200" {
			t.Errorf("%q, %v", status, err)
		}
	}
}

// goroutinesIn is how many goroutines are in a function, or in what that has called.
func goroutinesIn(function string) (n int) {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	_, all, _ := strings.Cut(b.String(), "\n")
	for alike := range strings.SplitSeq(all, "\n\n") {
		if strings.Contains(alike, function) {
			var some int
			_, _ = fmt.Sscan(alike, &some)
			n += some
		}
	}
	return n
}

// held is how much memory is in use: the heap and stacks.
func held() int {
	for range 3 { // pools keep what they have for two collections
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
