package relay

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"weir/hostabi"
	"weir/proxy/wsframe"
)

// every returns frames of every kind that p may send, in an order that the
// protocol allows.
func every(p *peer) (frames [][]byte) {
	add := func(fin bool, op wsframe.Opcode, payload string) { frames = append(frames, p.frame(fin, op, payload)) }
	for _, n := range []int{0, 1, 125, 126, 127, 1000, 65535, 65536, 65537, bufferSize - 14, bufferSize - 4, bufferSize, 200_000} {
		add(true, wsframe.Text, strings.Repeat("t", n))
		add(true, wsframe.Binary, strings.Repeat("\x00", n))
	}
	add(true, wsframe.Ping, "")
	add(true, wsframe.Ping, strings.Repeat("p", 125))
	add(true, wsframe.Pong, "unasked")
	add(false, wsframe.Text, "")
	add(false, wsframe.Continuation, "frag")
	add(true, wsframe.Continuation, "ment")
	add(false, wsframe.Binary, strings.Repeat("b", 70_000))
	add(true, wsframe.Continuation, "")
	add(true, wsframe.Text, `{"type":"p"}`)
	return frames
}

func (r *rig) ways() map[string][2]*peer {
	return map[string][2]*peer{"to the upstream": {r.c, r.u}, "to the client": {r.u, r.c}}
}

// Whatever is allowed arrives as it was sent: the same bytes, the same mask.
func TestForwardedVerbatim(t *testing.T) {
	for _, c := range []struct {
		how   string
		sizes []int // of what is sent at a time, in turn; 0: a frame
	}{
		{"a frame at a time", []int{0}},
		{"all at once", []int{1 << 30}},
		{"in pieces", []int{1, 7, 64, 4096, 3, 65536, 65535, 2}},
		{"in pieces that leave much of a frame behind", []int{5000, 40_000, 1}},
	} {
		for way := range map[string]int{"to the upstream": 0, "to the client": 1} {
			t.Run(way+" "+c.how, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					from, to := r.ways()[way][0], r.ways()[way][1]
					frames := every(from)
					all := bytes.Join(frames, nil)
					for rest, i := all, 0; len(rest) > 0; i++ {
						n := c.sizes[i%len(c.sizes)]
						if n == 0 {
							n = len(frames[i])
						}
						n = min(n, len(rest))
						from.raw(rest[:n])
						rest = rest[n:]
						synctest.Wait()
					}
					to.expectBytes(all)
					to.silent()
					from.silent()
				})
			})
		}
	}
}

func TestOneByteAtATime(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, way := range r.ways() {
			from, to := way[0], way[1]
			all := bytes.Join([][]byte{
				from.frame(true, wsframe.Text, "hello"), from.frame(true, wsframe.Binary, strings.Repeat("x", 300)),
				from.frame(false, wsframe.Text, "a"), from.frame(true, wsframe.Ping, "!"), from.frame(true, wsframe.Continuation, "b"),
				from.frame(true, wsframe.Text, ""),
			}, nil)
			for i := range all {
				from.raw(all[i : i+1])
				synctest.Wait()
			}
			ping := from.frame(true, wsframe.Ping, "!")
			at := bytes.Index(all, ping)
			whole := bytes.Join([][]byte{all[:at], all[at+len(ping):]}, nil)
			// The ping stands between fragments, which are held: it goes first.
			first := from.frame(false, wsframe.Text, "a")
			at -= len(first)
			to.expectBytes(whole[:at])
			to.expectBytes(ping)
			to.expectBytes(whole[at:])
			to.silent()
		}
	})
}

func TestManyMessagesInOneRead(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, way := range r.ways() {
			var all []byte
			for i := range 3 * maxRun {
				all = append(all, way[0].frame(true, wsframe.Text, fmt.Sprint(i))...)
			}
			way[0].raw(all)
			way[1].expectBytes(all)
		}
		if got := r.carried(hostabi.ToClient).Messages; got != 3*maxRun {
			t.Errorf("%d messages counted, want %d", got, 3*maxRun)
		}
	})
}

func TestBytesBehindTheHandshake(t *testing.T) {
	c, u := &peer{mask: &[4]byte{1, 2, 3, 4}}, &peer{}
	early := func(s *setup) {
		for range 3 {
			s.early[0] = append(s.early[0], c.frame(true, wsframe.Text, strings.Repeat("early", 9000))...)
		}
		s.early[1] = u.frame(true, wsframe.Text, "welcome")
	}
	inTunnel(t, func(r *rig) {
		r.c.send("later")
		for range 3 {
			r.u.expect(strings.Repeat("early", 9000))
		}
		r.u.expect("later")
		r.c.expect("welcome")
	}, early)
}

// Nothing of a fragmented message is sent before its end is here; control
// frames pass at once.
func TestFragmentsAreHeld(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, way := range r.ways() {
			from, to := way[0], way[1]
			frames := [][]byte{from.frame(false, wsframe.Text, "one "), from.frame(false, wsframe.Continuation, "two "), from.frame(true, wsframe.Continuation, "three")}
			from.raw(frames[0])
			to.silent()
			from.ping("between")
			to.expectFrame(got{wsframe.Ping, true, "between"})
			to.pong("between")
			from.expectFrame(got{wsframe.Pong, true, "between"})
			from.raw(frames[1])
			to.silent()
			if r.memory.Used() == 0 {
				t.Error("held fragments are not reserved in the memory budget")
			}
			from.raw(frames[2])
			to.expectBytes(bytes.Join(frames, nil))
			synctest.Wait()
			if n := r.memory.Used(); n != 0 {
				t.Errorf("%d bytes reserved behind a fragmented message", n)
			}
		}
	})
}

// A tunnel that waits holds no buffer; one that waits in the middle of a small
// frame holds no more than the frame. Nor does one that has read nothing but what
// came behind its handshake.
func TestIdleTunnelHoldsNothing(t *testing.T) {
	c := &peer{mask: &[4]byte{1, 2, 3, 4}}
	part := c.frame(true, wsframe.Text, strings.Repeat("x", 1000))[:500]
	holdsNothing := func(r *rig) {
		synctest.Wait()
		for d := range r.pumps {
			p := &r.pumps[d]
			if p.buf != nil || cap(p.carry) > 1024 {
				t.Errorf("pump %d holds a buffer: %v, and %d bytes", d, p.buf != nil, cap(p.carry))
			}
		}
	}
	inTunnel(t, func(r *rig) {
		r.c.send("a")
		r.u.expect("a")
		r.c.raw(part)
		holdsNothing(r)
	})
	inTunnel(t, func(r *rig) {
		r.u.expect("a")
		holdsNothing(r)
	}, func(s *setup) { s.early[0] = append(c.frame(true, wsframe.Text, "a"), part...) })
}
