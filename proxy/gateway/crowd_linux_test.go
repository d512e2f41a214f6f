package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
	"weir/hostabi/wasmhost/wasmtest"
	"weir/proxy/nettest"
)

// Clients decide how many wait for a policy at once, and nothing counts what they take
// meanwhile: each has its request and its own stack, and no loop's.
func TestWhoWaitsForAPolicyHoldsNoLoop(t *testing.T) {
	const crowd, query = 300, 8 << 10
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
	answers := make(chan int, len(conns)) // their status
	for i := range conns {
		conns[i] = nettest.Dial(t, r.g.Addr().String())
		go func() {
			for b := bufio.NewReader(conns[i]); ; {
				resp, err := http.ReadResponse(b, nil)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				answers <- resp.StatusCode
			}
		}()
	}
	until(t, "all are there", func() bool { return goroutinesIn("http1.(*conn).await") == len(conns) })
	ask := func(some []*net.TCPConn, query int) {
		for _, c := range some {
			if _, err := c.Write([]byte("GET /?" + strings.Repeat("q", query) + " HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(conns[crowd:], 3*query/2)
	until(t, "every instance is taken", func() bool {
		return goroutinesIn("wasmhost.(*instance).run") == instances || len(answers) > 0 // this machine has stood still
	})
	ask(conns[:crowd], query)
	until(t, "all wait", func() bool { return goroutinesIn("wasmhost.(*Module).take") >= crowd || len(answers) > 0 })
	if n, most := goroutinesIn("poll.(*loop).run"), r.g.loops.Loops()+instances; n > most {
		t.Errorf("%d goroutines are a loop or have left one, of at most %d", n, most)
	}
	for range conns {
		if status := <-answers; status != 200 && status != 503 {
			t.Errorf("%d", status)
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
