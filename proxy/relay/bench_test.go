package relay

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/wsframe"
)

// What a tunnel is for: an upstream that pushes as fast as it can.
func BenchmarkPush(b *testing.B) {
	for _, c := range []struct {
		name string
		set  func(testing.TB) *Settings
	}{
		{"policy", realSettings},
		{"native", func(testing.TB) *Settings {
			return &Settings{View: (*policy.Policy)(nil).View("r"), Limits: limits()}
		}},
	} {
		for _, size := range []int{128, 1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) { push(b, c.set(b), size) })
		}
	}
}

func push(b *testing.B, set *Settings, size int) {
	tun, c, u, ended := realTunnel(b, set)
	wire := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("m", 1, size)))
	per := max(64<<10/len(wire), 1)
	chunk := bytes.Repeat(wire, per)
	total := b.N
	var wg sync.WaitGroup
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	wg.Go(func() {
		for left := total; left > 0; left -= per {
			if _, err := u.Write(chunk[:min(per, left)*len(wire)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	in := make([]byte, 256<<10)
	for left := total * len(wire); left > 0; {
		n, err := c.Read(in)
		if err != nil {
			b.Fatal(err)
		}
		left -= n
	}
	b.StopTimer()
	wg.Wait()
	tun.Close(Cause{Initiator: metrics.ByWeir, Code: 1001})
	_ = c.Close()
	_ = u.Close()
	<-ended
	if n := tun.Info().Flow[hostabi.ToClient].Messages; n != int64(total) {
		b.Errorf("%d messages passed on, want %d", n, total)
	}
}

// null is a Transport that always has the same bytes, in the same place, and
// takes everything.
type null struct {
	Transport
	chunk []byte
	in    *byte // where chunk was laid
	left  int
}

func (n *null) ReadTo(b sock.Buffer) (int, error) {
	if n.left--; n.left < 0 {
		return 0, io.EOF
	}
	if space := b.Space(); n.in != &space[0] {
		n.in = &space[0]
		copy(space, n.chunk)
	}
	return len(n.chunk), nil
}

func (n *null) TryWrite(p []byte) (int, error) { return len(p), nil }

// What judging a message costs, without sockets.
func BenchmarkJudge(b *testing.B) { judge(b, realSettings(b)) }

// The same with a look at every byte.
func BenchmarkJudgeUTF8(b *testing.B) {
	set := realSettings(b)
	set.Limits.ValidateUTF8 = true
	judge(b, set)
}

func judge(b *testing.B, set *Settings) {
	for _, size := range []int{128, 1 << 10} {
		for d, name := range []string{"from_client", "from_upstream"} {
			mask := [2]*[4]byte{{1, 2, 3, 4}, nil}[d]
			for _, order := range []string{"alike", "by turns", "at random"} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, size, order), func(b *testing.B) {
					r := rand.New(rand.NewPCG(1, 2))
					var wire []byte
					per := bufferSize / (size + wsframe.MaxHeader)
					for i := range per {
						kind := map[string]int{"alike": 0, "by turns": i % 2, "at random": r.IntN(4)}[order]
						wire = wsframe.AppendFrame(wire, wsframe.Text, mask, []byte(event([]string{"message", "presence", "state", "token"}[kind], 1, size)))
					}
					route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
					route.Store(set)
					in := &null{chunk: wire, left: b.N/per + 1}
					t := New(Options{
						Route: route, Metrics: sharedMetrics(), Pressure: func() {},
						Client: Leg{Transport: in}, Upstream: Leg{Transport: in},
					})
					b.ReportAllocs()
					b.ResetTimer()
					t.pumps[d].run()
				})
			}
		}
	}
}

// One message at a time, of tunnels of one route and of many by turns: it costs the
// same.
func BenchmarkJudgeRoutes(b *testing.B) {
	for _, routes := range []int{1, 100} {
		b.Run(fmt.Sprint(routes), func(b *testing.B) {
			wire := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("message", 1, 128)))
			pumps := make([]*pump, routes)
			for i := range pumps {
				route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
				route.Store(realSettings(b))
				t := New(Options{
					Route: route, Metrics: sharedMetrics(), Pressure: func() {},
					Client: Leg{Transport: &null{}}, Upstream: Leg{Transport: &null{}},
				})
				pumps[i] = &t.pumps[hostabi.ToClient]
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := pumps[i%routes]
				p.batch(copy(p.Space(), wire))
				p.Idle()
			}
		})
	}
}

// A message of as many fragments as are held, and the longest of the turns that one
// takes: whoever shares the loop waits for that.
func BenchmarkFragments(b *testing.B) {
	set := realSettings(b)
	set.Limits.MaxMessageSize = 16 << 20
	most := int(2 * set.Limits.MaxMessageSize) // with headers
	for d, name := range []string{"from_client", "from_upstream"} {
		mask := [2]*[4]byte{{1, 2, 3, 4}, nil}[d]
		for _, size := range []int{0, 10, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
				route.Store(set)
				t := New(Options{
					Route: route, Metrics: sharedMetrics(), Pressure: func() {},
					Client: Leg{Transport: &null{}}, Upstream: Leg{Transport: &null{}},
				})
				p := &t.pumps[d]
				fragment := wsframe.AppendFrame(nil, wsframe.Continuation, mask, make([]byte, size))
				fragment[0] &^= 0x80 // not the last
				first := bytes.Clone(fragment)
				first[0] |= byte(wsframe.Text)
				n := most / len(fragment)
				if size > 0 {
					n = min(n, most/2/size)
				}
				wire := append(first, bytes.Repeat(fragment, n-1)...)
				wire[len(wire)-len(fragment)] |= 0x80
				least := time.Hour // of each message's longest: the machine takes its time, too
				b.SetBytes(int64(len(wire)))
				for b.Loop() {
					longest := time.Duration(0)
					for left := wire; len(left) > 0; p.Idle() {
						n := copy(p.Space(), left)
						left = left[n:]
						start := time.Now()
						p.batch(n)
						longest = max(longest, time.Since(start))
					}
					least = min(least, longest)
				}
				if n := p.messages.n.Load(); n == 0 || p.refused.n.Load() > 0 {
					b.Errorf("%d messages are passed on, %d refused", n, p.refused.n.Load())
				}
				b.ReportMetric(float64(least.Microseconds())/1000, "ms/longest")
			})
		}
	}
}

// One message at a time, there and back.
func BenchmarkPingPong(b *testing.B) {
	tun, c, u, ended := realTunnel(b, realSettings(b))
	masked := wsframe.AppendFrame(nil, wsframe.Text, &[4]byte{1, 2, 3, 4}, []byte(event("m", 1, 128)))
	wire := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("m", 1, 128)))
	var wg sync.WaitGroup
	wg.Go(func() {
		in := make([]byte, 1000)
		for {
			if _, err := io.ReadFull(u, in[:len(masked)]); err != nil {
				return
			}
			if _, err := u.Write(wire); err != nil {
				return
			}
		}
	})
	in := make([]byte, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(masked); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in[:len(wire)]); err != nil {
			b.Fatal(err)
		}
	}
	tun.Close(Cause{Initiator: metrics.ByWeir, Code: 1001})
	_ = c.Close()
	_ = u.Close()
	wg.Wait()
	<-ended
}

// What an idle tunnel costs of heap and stacks, its sockets and the peers' ends
// included.
func BenchmarkIdleMemory(b *testing.B) {
	const n = 500
	set := realSettings(b)
	for b.Loop() {
		var before, after runtime.MemStats
		var tuns []*Tunnel
		var peers []*net.TCPConn
		var ends []chan struct{}
		runtime.GC()
		runtime.ReadMemStats(&before)
		masked := wsframe.AppendFrame(nil, wsframe.Text, &[4]byte{1, 2, 3, 4}, []byte("hello"))
		in := make([]byte, 100)
		for range n {
			tun, c, u, ended := realTunnel(b, set)
			if _, err := c.Write(masked); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(u, in[:len(masked)]); err != nil {
				b.Fatal(err)
			}
			tuns, peers, ends = append(tuns, tun), append(peers, c, u), append(ends, ended)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/n, "heap-B/tunnel")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/tunnel")
		for i := range tuns {
			tuns[i].Close(Cause{Initiator: metrics.ByWeir, Code: 1001})
			_ = peers[2*i].Close()
			_ = peers[2*i+1].Close()
			<-ends[i]
		}
	}
}
