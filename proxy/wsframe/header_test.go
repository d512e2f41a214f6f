package wsframe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// reference reads a header the slow way, bit by bit, as RFC 6455 §5.2 draws it.
func reference(b []byte) (h Header, ok bool, bad bool) {
	bits := func(from, n int) (v uint64, enough bool) {
		for i := from; i < from+n; i++ {
			if i/8 >= len(b) {
				return 0, false
			}
			v = v<<1 | uint64(b[i/8]>>(7-i%8)&1)
		}
		return v, true
	}
	if _, enough := bits(0, 16); !enough {
		return h, false, false
	}
	fin, _ := bits(0, 1)
	rsv, _ := bits(1, 3)
	op, _ := bits(4, 4)
	masked, _ := bits(8, 1)
	length, _ := bits(9, 7)
	at := 16
	for _, form := range []struct {
		mark, least uint64
		bits        int
	}{{126, 126, 16}, {127, 1 << 16, 64}} {
		if length != form.mark || at != 16 {
			continue
		}
		long, enough := bits(at, form.bits)
		if !enough {
			return h, false, false
		}
		if long < form.least || long > math.MaxInt64 {
			return h, false, true
		}
		length, at = long, at+form.bits
		break
	}
	if masked == 1 {
		for i := range 4 {
			v, enough := bits(at, 8)
			if !enough {
				return Header{}, false, false
			}
			h.Mask[i], at = byte(v), at+8
		}
	}
	h.Fin, h.RSV, h.Opcode, h.Masked = fin == 1, byte(rsv), Opcode(op), masked == 1
	h.Length, h.Size = int64(length), at/8
	return h, true, false
}

func TestParse(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	for _, c := range []struct {
		name string
		b    []byte
		want Header
	}{
		{"RFC 6455 §5.7 Hello", []byte("\x81\x05Hello"), Header{Fin: true, Opcode: Text, Length: 5, Size: 2}},
		{"masked", []byte("\x81\x85\x01\x02\x03\x04"), Header{Fin: true, Opcode: Text, Masked: true, Mask: key, Length: 5, Size: 6}},
		{"first fragment", []byte("\x01\x03"), Header{Opcode: Text, Length: 3, Size: 2}},
		{"last fragment", []byte("\x80\x00"), Header{Fin: true, Opcode: Continuation, Size: 2}},
		{"reserved bits and opcode", []byte("\xFF\x00"), Header{Fin: true, RSV: 7, Opcode: 15, Size: 2}},
		{"RSV1", []byte("\xC2\x00"), Header{Fin: true, RSV: 4, Opcode: Binary, Size: 2}},
		{"16-bit length, least", []byte("\x82\x7E\x00\x7E"), Header{Fin: true, Opcode: Binary, Length: 126, Size: 4}},
		{"16-bit length, most", []byte("\x82\x7E\xFF\xFF"), Header{Fin: true, Opcode: Binary, Length: 65535, Size: 4}},
		{"64-bit length, least", []byte("\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"), Header{Fin: true, Opcode: Binary, Length: 65536, Size: 10}},
		{
			"64-bit length, most", []byte("\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x02\x03\x04"),
			Header{Fin: true, Opcode: Binary, Masked: true, Mask: key, Length: math.MaxInt64, Size: 14},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ok, err := Parse(c.b)
			if h != c.want || !ok || err != nil {
				t.Errorf("Parse = %+v, %v, %v; want %+v", h, ok, err, c.want)
			}
			for n := range c.want.Size {
				if h, ok, err := Parse(c.b[:n]); h != (Header{}) || ok || err != nil {
					t.Errorf("of %d bytes Parse = %+v, %v, %v; want more", n, h, ok, err)
				}
				before := Header{RSV: 3, Length: 9}
				h := before
				if ok, _ := h.Parse(c.b[:n]); ok || h != before {
					t.Errorf("of %d bytes Parse left %+v, want it untouched", n, h)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"125 in 16 bits", []byte("\x82\x7E\x00\x7D")},
		{"0 in 16 bits, mask still to come", []byte("\x82\xFE\x00\x00")},
		{"65535 in 64 bits", []byte("\x82\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF")},
		{"bit 63", []byte("\x82\x7F\x80\x00\x00\x00\x00\x00\x00\x00")},
		{"all ones", []byte("\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ok, err := Parse(c.b)
			e, is := errors.AsType[*Error](err)
			if ok || !is || e.Code != CloseProtocolError || h != (Header{}) {
				t.Errorf("Parse = %+v, %v, %v; want a protocol error", h, ok, err)
			}
			if _, ok, err := Parse(c.b[:len(c.b)-1]); ok || err != nil {
				t.Errorf("a byte earlier: %v, %v; want more", ok, err)
			}
		})
	}
}

// randomHeader has every field and every form of length, reserved ones too.
func randomHeader(r *rand.Rand) Header {
	h := Header{Fin: r.IntN(2) == 0, RSV: byte(r.IntN(8)), Opcode: Opcode(r.IntN(16)), Size: 2}
	switch r.IntN(3) {
	case 0:
		h.Length = r.Int64N(126)
	case 1:
		h.Length, h.Size = 126+r.Int64N(1<<16-126), 4
	case 2:
		h.Length, h.Size = max(1<<16, r.Int64()>>r.IntN(47)), 10
	}
	if h.Masked = r.IntN(2) == 0; h.Masked {
		h.Size += 4
		for i := range h.Mask {
			h.Mask[i] = byte(r.Uint32())
		}
	}
	return h
}

func TestHeadersComeBackAsWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		want := randomHeader(r)
		b := AppendHeader(nil, want)
		got, ok, err := Parse(b)
		if got != want || !ok || err != nil || len(b) != want.Size {
			t.Fatalf("wrote %+v as % x, read %+v, %v, %v", want, b, got, ok, err)
		}
	}
}

func TestAppendFrame(t *testing.T) {
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	// The examples of RFC 6455 §5.7.
	if got := AppendFrame(nil, Text, nil, []byte("Hello")); string(got) != "\x81\x05Hello" {
		t.Errorf("unmasked: % x", got)
	}
	payload := []byte("Hello")
	if got := AppendFrame([]byte("x"), Text, &key, payload); string(got) != "x\x81\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58" {
		t.Errorf("masked: % x", got)
	}
	if string(payload) != "Hello" {
		t.Errorf("the payload itself became %q", payload)
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	b := AppendFrame(nil, Text, &[4]byte{1, 2, 3, 4}, make([]byte, 1024))
	s := NewSequence(true)
	if n := testing.AllocsPerRun(100, func() {
		h, ok, err := Parse(b)
		if !ok || err != nil || s.Check(&h) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x81\x05Hello"))
	f.Add([]byte("\x81\x85\x37\xFA\x21\x3D"))
	f.Add([]byte("\x82\x7E\x01\x00"))
	f.Add([]byte("\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"))
	f.Add([]byte("\x82\xFF\x80\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok, err := Parse(b)
		want, wantOK, bad := reference(b)
		if h != want || ok != wantOK || (err != nil) != bad {
			t.Fatalf("Parse(% x) = %+v, %v, %v; the reference has %+v, %v, %v", b, h, ok, err, want, wantOK, bad)
		}
		if ok && !bytes.Equal(AppendHeader(nil, h), b[:h.Size]) {
			t.Fatalf("% x was written back as % x", b[:h.Size], AppendHeader(nil, h))
		}
		if !ok && err == nil && len(b) >= MaxHeader {
			t.Fatalf("% x is %d bytes and wants more", b, len(b))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		h    Header
	}{
		{"server/128B", Header{Fin: true, Opcode: Text, Length: 128}},
		{"client/100B", Header{Fin: true, Opcode: Text, Length: 100, Masked: true}},
		{"client/128B", Header{Fin: true, Opcode: Text, Length: 128, Masked: true}},
		{"client/128KiB", Header{Fin: true, Opcode: Text, Length: 128 << 10, Masked: true}},
	} {
		frame := AppendHeader(nil, c.h)
		b.Run(c.name, func(b *testing.B) {
			s := NewSequence(c.h.Masked)
			b.ReportAllocs()
			for b.Loop() {
				h, ok, err := Parse(frame)
				if !ok || err != nil || s.Check(&h) != nil {
					b.Fatal("refused")
				}
			}
		})
		b.Run(c.name+"/in place", func(b *testing.B) {
			s := NewSequence(c.h.Masked)
			var h Header
			b.ReportAllocs()
			for b.Loop() {
				ok, err := h.Parse(frame)
				if !ok || err != nil || s.Check(&h) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// What Ordinary takes is what Parse and Check take, read alike.
func FuzzOrdinary(f *testing.F) {
	f.Add([]byte("\x81\x05Hello"), false)
	f.Add([]byte("\x82\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58"), true)
	f.Add([]byte("\x81\x7E\x00\x7D"), false)
	f.Add([]byte("\x81\x7E\x00\x7E"+strings.Repeat("x", 126)), false)
	f.Add([]byte("\x81\x7F\x00\x00\x00\x00\x00\x01\x00\x00"), false)
	f.Fuzz(func(t *testing.T, b []byte, fromClient bool) {
		if len(b) < MaxHeader {
			b = append(b, make([]byte, MaxHeader)...)
		}
		size, length := Ordinary(binary.LittleEndian.Uint32(b), fromClient)
		if size == 0 {
			return
		}
		s := NewSequence(fromClient)
		h, ok, err := Parse(b)
		if err == nil {
			err = s.Check(&h)
		}
		if !ok || err != nil || size != h.Size || int64(length) != h.Length || !h.Fin || h.Opcode.IsControl() {
			t.Fatalf("Ordinary(% x) has %d, %d; Parse has %+v, %v, %v", b[:MaxHeader], size, length, h, ok, err)
		}
	})
}

func TestOrdinaryTakesOrdinaryMessages(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
			b := AppendFrame(nil, Text, mask, make([]byte, n))
			size, length := Ordinary(binary.LittleEndian.Uint32(append(b, 0, 0)), mask != nil)
			if taken := size > 0; taken != (n < 1<<16) || taken && (length != n || size+length != len(b)) {
				t.Errorf("%d bytes, mask %v: a header of %d, a payload of %d", n, mask, size, length)
			}
		}
	}
}
