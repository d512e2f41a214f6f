package wsframe

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// What is no UTF-8, and the bytes after which nothing can mend it: 0 when only
// the end tells.
var invalidText = []struct {
	name, text string
	known      int
}{
	{"a continuation byte alone", "\x80", 1},
	{"bytes that never occur", "a\xFFb", 2},
	{"an overlong slash", "\xC0\xAF", 1},
	{"overlong in three", "\xE0\x80\xAF", 2},
	{"overlong in four", "\xF0\x80\x80\xAF", 2},
	{"a surrogate", "\xED\xA0\x80", 2},
	{"above U+10FFFF", "\xF4\x90\x80\x80", 2},
	{"five bytes", "\xF8\x88\x80\x80\x80", 1},
	{"a character cut by another", "\xE2\x82a", 3},
	{"a character cut by the end", "a\xE2\x82", 0},
	{"a character of four cut by the end", "\xF0\x9F\x98", 0},
}

// check gives text to a UTF8 in pieces of n bytes, masked or not, and returns
// after how many bytes it was refused, -1 for never, and whether it may end.
func check(text string, n int, key *[4]byte) (refused int, whole bool) {
	var v UTF8
	scratch := make([]byte, 5)
	for at := 0; at < len(text); {
		piece := []byte(text[at:min(len(text), at+n)])
		ok := false
		if key != nil {
			Mask(piece, *key, at)
			ok = v.AddMasked(piece, *key, at, scratch)
		} else {
			ok = v.Add(piece)
		}
		at += len(piece)
		if !ok {
			return at, false
		}
	}
	return -1, v.Whole()
}

func TestTextThatIsNotUTF8(t *testing.T) {
	for _, c := range invalidText {
		for _, front := range []string{"", "front", strings.Repeat("é😀", 9)} {
			for _, key := range []*[4]byte{nil, {1, 2, 3, 4}} {
				for n := 1; n < 20; n++ {
					refused, whole := check(front+c.text, n, key)
					if whole {
						t.Errorf("%s behind %q in pieces of %d is taken", c.name, front, n)
					}
					if known := len(front) + c.known; n == 1 && c.known > 0 && refused != known {
						t.Errorf("%s behind %q is refused after %d bytes, known after %d", c.name, front, refused, known)
					}
					if n == 1 && c.known == 0 && refused >= 0 {
						t.Errorf("%s behind %q is refused after %d bytes: it could go on", c.name, front, refused)
					}
				}
			}
		}
	}
}

func TestTextInPieces(t *testing.T) {
	for _, text := range []string{"", "plain", "é", "€", "😀", "\uFFFD\u0000\U0010FFFF\uD7FF", strings.Repeat("aé€😀", 50)} {
		for n := 1; n < 20; n++ {
			for _, key := range []*[4]byte{nil, {0xAA, 0xFF, 0x80, 0}} {
				if refused, whole := check(text, n, key); refused >= 0 || !whole {
					t.Errorf("%q in pieces of %d: refused after %d, whole %v", text, n, refused, whole)
				}
			}
		}
	}
}

func TestCheckingTextDoesNotAllocate(t *testing.T) {
	p := []byte(strings.Repeat("aé€😀", 500))
	scratch := make([]byte, 512)
	if n := testing.AllocsPerRun(100, func() {
		var v UTF8
		v.AddMasked(p, [4]byte{1, 2, 3, 4}, 0, scratch)
		v.Add(p[:7])
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzUTF8(f *testing.F) {
	for _, c := range invalidText {
		f.Add([]byte(c.text), uint8(1), uint8(3), uint32(0x01020304))
	}
	f.Add([]byte("aé€😀"), uint8(2), uint8(5), uint32(0))
	f.Fuzz(func(t *testing.T, text []byte, first, then uint8, key uint32) {
		k := [4]byte{byte(key >> 24), byte(key >> 16), byte(key >> 8), byte(key)}
		masked := append([]byte(nil), text...)
		Mask(masked, k, 0)
		var v, m UTF8
		scratch := make([]byte, 1+int(then)%9)
		ok, okMasked := true, true
		for at, n := 0, int(first); at < len(text) && ok; n = 1 + int(then) {
			end := min(len(text), at+n)
			ok = v.Add(text[at:end])
			okMasked = m.AddMasked(masked[at:end], k, at, scratch)
			if ok != okMasked {
				t.Fatalf("%q to %d: %v, masked %v", text, end, ok, okMasked)
			}
			at = end
		}
		if want := utf8.Valid(text); (ok && v.Whole()) != want || (okMasked && m.Whole()) != want {
			t.Fatalf("%q: %v and whole %v, masked %v and %v; utf8.Valid says %v", text, ok, v.Whole(), okMasked, m.Whole(), want)
		}
	})
}

func BenchmarkUTF8(b *testing.B) {
	for name, text := range map[string]string{"ascii": strings.Repeat("a", 1024), "mixed": strings.Repeat("aé€😀", 102)} {
		p, scratch := []byte(text), make([]byte, 4096)
		Mask(p, [4]byte{1, 2, 3, 4}, 0)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				var v UTF8
				if !v.AddMasked(p, [4]byte{1, 2, 3, 4}, 0, scratch) || !v.Whole() {
					b.Fatal("refused")
				}
			}
		})
	}
}
