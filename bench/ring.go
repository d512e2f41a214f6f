package main

import (
	"bytes"
	"fmt"
)

const (
	ringBytes = 256 << 10 // about what stays in a core's cache
	headBytes = 32        // of each payload that are compared; they hold the slot
	wholeOf   = 64        // one message in so many is compared as a whole
)

// ring is the traffic of one direction, written out once: message i of a
// tunnel is slot i modulo slots, so a batch is sent by one write of
// neighbouring slots and a received message is checked without state.
type ring struct {
	wire  []byte // slots frames, one behind the other
	slots int
	frame int // bytes of a frame
	head  int // of which header
}

// newRing makes messages of size bytes: JSON with its type first, in turns
// critical (message) and droppable (presence).
func newRing(size int, masked bool) *ring {
	r := &ring{slots: max(16, ringBytes/size&^1)}
	for slot := range r.slots {
		var mask *[4]byte
		if masked {
			mask = &[4]byte{byte(slot), byte(slot >> 8), 0x5A, byte(slot*7 + 1)}
		}
		start := len(r.wire)
		r.wire = appendHeader(r.wire, opText, size, mask)
		r.head = len(r.wire) - start
		r.wire = appendPayload(r.wire, slot, size)
		if masked {
			xor(r.wire[start+r.head:], *mask, 0)
		}
	}
	r.frame = r.head + size
	return r
}

func appendPayload(dst []byte, slot, size int) []byte {
	start := len(dst)
	if slot&1 == 0 {
		dst = fmt.Appendf(dst, `{"type":"message","id":"%06d","text":"`, slot)
	} else {
		dst = fmt.Appendf(dst, `{"type":"presence","user":"%06d","pad":"`, slot)
	}
	for len(dst)-start < size-2 {
		dst = append(dst, 'a'+byte((len(dst)-start)%26))
	}
	return append(dst, `"}`...)
}

// at is the wire from byte n of an endless stream to the end of the ring.
func (r *ring) at(n int64) []byte { return r.wire[n%int64(len(r.wire)):] }

// payload is the payload of message n. Only an unmasked ring has it readable.
func (r *ring) payload(n int64) []byte {
	i := int(n%int64(r.slots))*r.frame + r.head
	return r.wire[i : i+r.frame-r.head]
}

// check compares what came as message n with what was sent.
func (r *ring) check(n int64, h header, payload []byte) error {
	want := r.payload(n)
	switch {
	case h.op == opClose && len(payload) >= 2:
		if h.masked {
			xor(payload, h.mask, 0)
		}
		return fmt.Errorf("closed with %d %q before message %d", int(payload[0])<<8|int(payload[1]), payload[2:], n)
	case h.op != opText || !h.fin:
		return fmt.Errorf("message %d came with opcode %d, fin %v", n, h.op, h.fin)
	case h.length != len(want):
		return fmt.Errorf("message %d has %d bytes instead of %d: %.200q", n, h.length, len(want), payload)
	}
	compare := headBytes
	if n%wholeOf == 0 {
		compare = len(want)
	}
	if h.masked {
		xor(payload[:compare], h.mask, 0)
	}
	if !bytes.Equal(payload[:compare], want[:compare]) {
		return fmt.Errorf("message %d is not the one that was sent: %.80q instead of %.80q", n, payload[:compare], want[:compare])
	}
	return nil
}
