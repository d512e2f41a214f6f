package relay

import (
	"bytes"
	"testing"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/wsframe"
)

// fed is a pump of messages to the client, on no connection, and feed gives it
// at most so many bytes of a stream as if a loop had read them.
func fed(t *testing.T) (p *pump, feed func(stream []byte, most int) int) {
	route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
	route.Store(realSettings(t))
	tun := New(Options{Route: route, Metrics: sharedMetrics(), Client: Leg{Transport: &null{}}, Upstream: Leg{Transport: &null{}}})
	p = &tun.pumps[hostabi.ToClient]
	return p, func(stream []byte, most int) int {
		space := p.Space()
		n := copy(space[:min(len(space), most)], stream)
		if c, more := p.batch(n); !more {
			t.Fatal(c)
		}
		p.Idle()
		return n
	}
}

// A stream of which every read ends inside a frame is read as fast as another.
func TestReadsStayLarge(t *testing.T) {
	for _, size := range []int{100, 1000, 16 << 10, 60 << 10} {
		p, feed := fed(t)
		frame := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("m", 1, size)))
		stream := bytes.Repeat(frame, 4<<20/len(frame))
		reads := 0
		for rest := stream; len(rest) > 0; reads++ {
			rest = rest[feed(rest, readSize):]
		}
		if most := len(stream)/(readSize-len(frame)) + 1; reads > most {
			t.Errorf("frames of %d bytes: %d reads for %d bytes, want %d at most", len(frame), reads, len(stream), most)
		}
		if n := p.messages.n.Load(); n != int64(len(stream)/len(frame)) {
			t.Errorf("frames of %d bytes: %d passed on", len(frame), n)
		}
	}
}

// What comes in small pieces is not moved for each of them.
func TestPiecesAreNotMoved(t *testing.T) {
	p, feed := fed(t)
	stream := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("m", 1, 60<<10)))
	var in *buffer
	moves := 0
	for rest := stream; len(rest) > 0; {
		rest = rest[feed(rest, 500):]
		if p.buf != nil && p.buf != in {
			in = p.buf
			moves++
		}
	}
	if moves != 1 {
		t.Errorf("%d buffers held one frame", moves)
	}
}

// Messages of one length are read whole, so that nothing has to be moved.
func TestReadsEndWithAMessage(t *testing.T) {
	for _, size := range []int{3 << 10, 16 << 10, 60 << 10} {
		p, feed := fed(t)
		frame := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("m", 1, size)))
		rest := bytes.Repeat(frame, 4<<20/len(frame))
		for reads := 0; len(rest) > 0; reads++ {
			rest = rest[feed(rest, readSize):]
			if held := p.buf != nil || len(p.carry) > 0; held && reads > 1 {
				t.Fatalf("frames of %d bytes: something is left after %d reads", len(frame), reads)
			}
		}
	}
}

// A guess about the next message's length costs no more than half a read.
func TestReadsAreNeverSmall(t *testing.T) {
	p, _ := fed(t)
	for _, left := range []int{0, 1, 5000, 40 << 10, bufferSize - 1} {
		for _, n := range []int{1, 2, 100, slowSize, readSize - left} {
			for _, length := range []int{0, 1, carrySize, carrySize + 1, 5 << 10, slowSize, bufferSize} {
				p.buf, p.length = &buffer{w: left}, length
				if got := p.evenly(n); got > n || got < (n+1)/2 {
					t.Errorf("%d bytes left, messages of %d: reads %d of %d", left, length, got, n)
				}
			}
		}
	}
}
