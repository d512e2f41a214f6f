package main

import (
	"bytes"
	"testing"
)

func TestRingIsWhatItSays(t *testing.T) {
	for _, size := range []int{128, 1024, 16 << 10} {
		plain, masked := newRing(size, false), newRing(size, true)
		if len(plain.payload(5)) != size || plain.slots != masked.slots {
			t.Fatalf("size %d: payload of %d, %d and %d slots", size, len(plain.payload(5)), plain.slots, masked.slots)
		}
		for _, r := range []*ring{plain, masked} {
			b := bytes.Clone(r.wire)
			for n := range int64(r.slots) {
				h, ok, err := parseHeader(b)
				if !ok || err != nil {
					t.Fatal(n, ok, err)
				}
				payload := b[h.size : h.size+h.length]
				if err := plain.check(n+int64(r.slots), h, payload); err != nil {
					t.Fatal(err)
				}
				b = b[h.size+h.length:]
			}
			if len(b) != 0 {
				t.Errorf("size %d: %d bytes behind the last frame", size, len(b))
			}
		}
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	r := newRing(128, false)
	good := header{fin: true, op: opText, length: 128}
	for name, c := range map[string]struct {
		n       int64
		h       header
		payload []byte
	}{
		"another message":     {7, good, r.payload(8)},
		"a byte at the end":   {64, good, append(bytes.Clone(r.payload(64)[:127]), '!')},
		"another length":      {7, header{fin: true, op: opText, length: 20}, r.payload(7)[:20]},
		"a fragment":          {7, header{op: opText, length: 128}, r.payload(7)},
		"a binary message":    {7, header{fin: true, op: 2, length: 128}, r.payload(7)},
		"a close with reason": {7, header{fin: true, op: opClose, length: 4}, []byte("\x03\xf5no")},
	} {
		if r.check(c.n, c.h, c.payload) == nil {
			t.Error(name, "passed")
		}
	}
}
