//go:build e2e

package e2e

import (
	"io"
	"strings"
	"testing"
	"time"
)

// siege is a Weir that is attacked, beside a tunnel that has nothing to do with
// it. Every test of a hostile client or upstream runs its attacks through one.
type siege struct {
	*gateway
	innocent *raw
}

// besiege starts a Weir with s and opens the innocent tunnel, on a route and to
// an upstream of its own.
func besiege(t *testing.T, s settings) *siege {
	t.Helper()
	url := backend(t, func(c *raw) { // sends back what it gets
		if head := c.request(); field(head, "Upgrade") != "" {
			_ = c.SetDeadline(time.Time{}) // it outlives every attack
			c.send(accept(head))
			for {
				op, _, payload, err := c.anyFrame()
				switch {
				case err != nil:
					return
				case op == 0x89:
					op = 0x8A
				}
				_, _ = io.WriteString(c, frame(op, false, payload))
			}
		}
	})
	s.rest += "\n[[route]]\nname = \"innocent\"\npath = \"/innocent\"\nupstream = \"innocent\"\nlimits = { idle_timeout = \"10m\" }\n\n[upstream.innocent]\nurls = [\"" + url + "\"]\n"
	g := start(t, s)
	var innocent *raw
	if strings.Contains(s.server, "tls_cert") {
		innocent = dialTLS(t, g.addr)
	} else {
		g.get("/innocent") // what is taken at the first request and kept is no leak
		innocent = dialRaw(t, g.addr)
	}
	innocent.upgrade("/innocent")
	b := &siege{g, innocent}
	b.works("before the first attack")
	return b
}

// works has the innocent tunnel carry a message there and back.
func (b *siege) works(when string) {
	b.t.Helper()
	_ = b.innocent.SetDeadline(time.Now().Add(patience))
	b.innocent.send(frame(0x81, true, when))
	op, payload := b.innocent.frame()
	for op == 0x89 { // Weir looks whether it is still there
		b.innocent.send(frame(0x8A, true, payload))
		op, payload = b.innocent.frame()
	}
	if op != 0x81 || payload != when {
		b.t.Fatalf("%s the innocent tunnel got %x %.200q", when, op, payload)
	}
}

// withstands runs an attack, which says itself what it expects. Behind it the
// innocent tunnel has to work, and Weir to come back to where it was.
func (b *siege) withstands(name string, attack func(t *testing.T)) {
	b.t.Run(name, func(t *testing.T) {
		before := b.standing()
		attack(t)
		if t.Failed() {
			return
		}
		b.works("behind " + name)
		var now standing
		defer func() {
			if t.Failed() {
				t.Logf("before the attack %+v", before)
				t.Logf("behind it         %+v", now)
			}
		}()
		eventually(t, "Weir to be as it was before the attack", func() bool {
			now = b.standing()
			return now.asGoodAs(before)
		})
	})
}

// standing is what a Weir holds at one moment.
type standing struct {
	heap, resident              int64 // bytes
	files, goroutines           int   // kept connections to upstreams are not counted
	tunnels, requests, upstream int   // connections
	queued, inflight, instances int
}

// Memory is given back late and in part: what the collector leaves of pools and
// tables that have grown, and what the runtime keeps of the heap for its next
// cycle. In bytes.
const (
	heapSlack     = 8 * mib
	residentSlack = 48 * mib
)

func (s standing) asGoodAs(before standing) bool {
	heap, resident := s.heap-before.heap, s.resident-before.resident
	s.heap, s.resident = before.heap, before.resident
	// Fewer goroutines are no harm: some are made at the first need.
	s.goroutines = max(s.goroutines, before.goroutines)
	s.files = max(s.files, before.files)
	return s == before && heap <= heapSlack && resident <= residentSlack
}

// standing collects the garbage and looks.
func (b *siege) standing() (s standing) {
	b.t.Helper()
	if status, _ := b.ask("GET", "/debug/pprof/heap?gc=1"); status != 200 {
		b.t.Fatalf("/debug/pprof/heap: %d", status)
	}
	var upstreams []struct {
		Targets []struct {
			Idle  int
			InUse int `json:"in_use"`
		}
	}
	b.decode("/upstreams", &upstreams)
	idle := 0
	for _, u := range upstreams {
		for _, target := range u.Targets {
			idle += target.Idle
			s.upstream += target.InUse
		}
	}
	m := b.metrics()
	s.heap = int64(m["go_memstats_heap_alloc_bytes"])
	s.resident = b.resident()
	s.files = b.files() - idle
	s.goroutines = b.goroutines()
	for _, state := range []string{"handshake", "open", "closing"} {
		s.tunnels += int(m[`weir_connections{state="`+state+`"}`])
	}
	s.requests = int(m[`weir_connections{state="http"}`])
	s.queued, s.inflight = int(m["weir_queue_bytes"]), int(m["weir_inflight"])
	for series, n := range m {
		if strings.HasPrefix(series, "weir_policy_instances{") {
			s.instances += int(n)
		}
	}
	return s
}
