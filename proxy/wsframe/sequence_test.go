package wsframe

import (
	"errors"
	"testing"
)

func TestSequence(t *testing.T) {
	type frame = Header
	part := func(op Opcode) frame { return frame{Opcode: op} }
	last := func(op Opcode) frame { return frame{Opcode: op, Fin: true} }
	for _, c := range []struct {
		name   string
		frames []frame
		open   bool // a message is open after the frames
		bad    bool // the last frame is refused
	}{
		{name: "one text", frames: []frame{last(Text)}},
		{name: "empty fragments", frames: []frame{part(Binary), part(Continuation), last(Continuation)}},
		{name: "open", frames: []frame{part(Text), part(Continuation)}, open: true},
		{name: "control between fragments", frames: []frame{part(Text), last(Ping), last(Pong), last(Continuation)}},
		{name: "close between fragments", frames: []frame{part(Text), last(Close)}, open: true},
		{name: "two messages", frames: []frame{part(Text), last(Continuation), part(Binary), last(Continuation)}},
		{name: "largest control", frames: []frame{{Fin: true, Opcode: Ping, Length: 125}}},
		{name: "continuation first", frames: []frame{last(Continuation)}, bad: true},
		{name: "fragment of nothing", frames: []frame{last(Text), part(Continuation)}, bad: true},
		{name: "text inside text", frames: []frame{part(Text), last(Text)}, open: true, bad: true},
		{name: "binary begins inside text", frames: []frame{part(Text), part(Binary)}, open: true, bad: true},
		{name: "control of 126 bytes", frames: []frame{{Fin: true, Opcode: Close, Length: 126}}, bad: true},
		{name: "fragmented ping", frames: []frame{part(Ping)}, bad: true},
		{name: "fragmented close", frames: []frame{part(Close)}, bad: true},
		{name: "RSV1", frames: []frame{{Fin: true, RSV: 4, Opcode: Text}}, bad: true},
		{name: "RSV2 on a control", frames: []frame{{Fin: true, RSV: 2, Opcode: Ping}}, bad: true},
		{name: "RSV3 on a continuation", frames: []frame{part(Text), {Fin: true, RSV: 1}}, open: true, bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, fromClient := range []bool{true, false} {
				s := NewSequence(fromClient)
				for i, h := range c.frames {
					h.Masked = fromClient
					err := s.Check(&h)
					if want := c.bad && i == len(c.frames)-1; (err != nil) != want {
						t.Errorf("from client %v, frame %d: %v, want an error: %v", fromClient, i, err, want)
					}
					if e, is := errors.AsType[*Error](err); err != nil && (!is || e.Code != CloseProtocolError) {
						t.Errorf("frame %d: %#v, want an *Error with code 1002", i, err)
					}
				}
				if s.InMessage() != c.open {
					t.Errorf("from client %v: message open: %v, want %v", fromClient, s.InMessage(), c.open)
				}
			}
		})
	}
}

func TestReservedOpcodes(t *testing.T) {
	for op := range Opcode(16) {
		s := NewSequence(false)
		want := op > Binary && op < Close || op > Pong
		// A continuation needs a message to continue.
		if op == Continuation {
			_ = s.Check(&Header{Opcode: Text})
		}
		if err := s.Check(&Header{Fin: true, Opcode: op}); (err != nil) != want {
			t.Errorf("opcode %d: %v, want an error: %v", op, err, want)
		}
	}
}

func TestMaskingPerDirection(t *testing.T) {
	for _, op := range []Opcode{Text, Binary, Close, Ping, Pong} {
		client, server := NewSequence(true), NewSequence(false)
		if client.Check(&Header{Fin: true, Opcode: op}) == nil {
			t.Errorf("unmasked %s of a client passed", op)
		}
		if server.Check(&Header{Fin: true, Opcode: op, Masked: true}) == nil {
			t.Errorf("masked %s of a server passed", op)
		}
	}
}
