package main

import (
	"bytes"
	"testing"
)

func TestFrameRoundTrip(t *testing.T) {
	for _, length := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20} {
		for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
			wire := appendHeader(nil, opText, length, mask)
			for cut := range wire {
				if _, ok, err := parseHeader(wire[:cut]); ok || err != nil {
					t.Errorf("%d bytes of the header of %d: %v, %v", cut, length, ok, err)
				}
			}
			h, ok, err := parseHeader(append(wire, 'x'))
			want := header{fin: true, op: opText, masked: mask != nil, size: len(wire), length: length}
			if mask != nil {
				want.mask = *mask
			}
			if !ok || err != nil || h != want {
				t.Errorf("length %d: %+v, %v, %v; want %+v", length, h, ok, err, want)
			}
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{0x81, 0x05})
	f.Add(appendHeader(nil, opText, 70_000, &[4]byte{9, 8, 7, 6}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok, err := parseHeader(b)
		if err != nil || !ok {
			return
		}
		if h.size > len(b) || h.length < 0 {
			t.Fatalf("%+v from %d bytes", h, len(b))
		}
		// A minimal header comes back as it was.
		var mask *[4]byte
		if h.masked {
			mask = &h.mask
		}
		if again := appendHeader(nil, h.op, h.length, mask); h.fin && len(again) == h.size && !bytes.Equal(again, b[:h.size]) {
			t.Fatalf("% x became % x", b[:h.size], again)
		}
	})
}
