package wsframe

import (
	"bytes"
	"fmt"
	"testing"
)

// maskSlow is RFC 6455 §5.3, letter by letter.
func maskSlow(src []byte, key [4]byte, pos int) []byte {
	dst := make([]byte, len(src))
	for i := range src {
		dst[i] = src[i] ^ key[(pos+i)%4]
	}
	return dst
}

func TestMaskAtEveryLengthAndPosition(t *testing.T) {
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	src := make([]byte, 100)
	for i := range src {
		src[i] = byte(i * 7)
	}
	for n := range len(src) {
		for pos := range 9 {
			want := maskSlow(src[:n], key, pos)
			got := bytes.Clone(src)
			if Mask(got[:n], key, pos); !bytes.Equal(got[:n], want) || !bytes.Equal(got[n:], src[n:]) {
				t.Fatalf("Mask of %d bytes at %d: % x, want % x", n, pos, got, want)
			}
			dst := make([]byte, len(src))
			if c := CopyMask(dst, src[:n], key, pos); c != n || !bytes.Equal(dst[:n], want) || dst[n] != 0 {
				t.Fatalf("CopyMask of %d bytes at %d: %d, % x, want % x", n, pos, c, dst, want)
			}
		}
	}
}

func TestCopyMaskStopsAtTheShorter(t *testing.T) {
	dst := make([]byte, 5)
	if n := CopyMask(dst[:3], make([]byte, 40), [4]byte{1, 1, 1, 1}, 0); n != 3 || dst[2] != 1 || dst[3] != 0 {
		t.Errorf("into 3 bytes: %d, % x", n, dst)
	}
	if n := CopyMask(dst, []byte{0}, [4]byte{2}, 0); n != 1 || dst[0] != 2 || dst[1] != 1 {
		t.Errorf("from 1 byte: %d, % x", n, dst)
	}
}

func FuzzMask(f *testing.F) {
	f.Add([]byte("Hello, and more than thirty-two bytes of it."), []byte("\x37\xFA\x21\x3D"), uint16(1), uint16(7))
	f.Add([]byte("Hel"), []byte("abcd"), uint16(3), uint16(0))
	f.Fuzz(func(t *testing.T, b, k []byte, pos, cut uint16) {
		var key [4]byte
		copy(key[:], k)
		want := maskSlow(b, key, int(pos))
		got := bytes.Clone(b)
		n := min(int(cut), len(b))
		Mask(got[:n], key, int(pos)) // in two parts, as from two reads
		Mask(got[n:], key, int(pos)+n)
		if !bytes.Equal(got, want) {
			t.Fatalf("% x, want % x", got, want)
		}
		if Mask(got, key, int(pos)); !bytes.Equal(got, b) {
			t.Fatalf("masked twice % x is % x", b, got)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	for _, n := range []int{16, 128, 1 << 10, 16 << 10} {
		buf := make([]byte, n)
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				Mask(buf, [4]byte{1, 2, 3, 4}, 1)
			}
		})
	}
}
