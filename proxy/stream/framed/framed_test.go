package framed_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"weir/proxy/stream/framed"
)

// frames lays payloads as framed-v1.
func frames(payloads ...string) []byte {
	var b []byte
	for _, p := range payloads {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// split is the slow reference: it holds the whole stream.
func split(b []byte, max int64) (payloads [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 4 {
			return payloads, &framed.TruncatedError{Bytes: int64(len(b))}
		}
		n := binary.BigEndian.Uint32(b)
		if int64(n) > max {
			return payloads, &framed.LengthError{Length: n, Max: max}
		}
		if int64(len(b)-4) < int64(n) {
			return append(payloads, b[4:]), &framed.TruncatedError{Bytes: int64(len(b))}
		}
		payloads, b = append(payloads, b[4:4+n]), b[4+n:]
	}
	return payloads, nil
}

var cases = []struct {
	name string
	in   []byte
	max  int64
	out  string // payloads
	pass int    // bytes of in that Pass hands on
	err  string
}{
	{name: "nothing is a whole stream"},
	{name: "one frame", in: frames("hello"), max: 5, out: "hello", pass: 9},
	{name: "empty frames are kept", in: frames("", "a", "", ""), out: "a", pass: 17},
	{name: "many frames", in: frames("ab", "c", strings.Repeat("d", 300)), max: 300, out: "abc" + strings.Repeat("d", 300), pass: 315},
	{
		name: "a length above the maximum", in: frames("ab", "12345678"), max: 7, out: "ab", pass: 6,
		err: "Byte-stream frame length 8 exceeds maximum (7). The stream is not framed-v1, or it is corrupt.",
	},
	{
		name: "text is no frame", in: []byte("HTTP/1.1"), max: 100_000_000,
		err: "Byte-stream frame length 1213486160 exceeds maximum (100000000). The stream is not framed-v1, or it is corrupt.",
	},
	{
		name: "the end within a header", in: append(frames("ab"), 0, 0), max: 7, out: "ab", pass: 8,
		err: "Byte-stream ended with 2 bytes of incomplete frame data. The stream was truncated mid-frame.",
	},
	{
		name: "the end right behind a header", in: frames("ab", "xyz")[:10], max: 7, out: "ab", pass: 10,
		err: "Byte-stream ended with 4 bytes of incomplete frame data. The stream was truncated mid-frame.",
	},
	{
		name: "the end within a payload", in: frames("ab", "xyz")[:12], max: 7, out: "abxy", pass: 12,
		err: "Byte-stream ended with 6 bytes of incomplete frame data. The stream was truncated mid-frame.",
	},
}

// arrivals are ways for the same bytes to arrive.
var arrivals = map[string]func(io.Reader) io.Reader{
	"at once":              func(r io.Reader) io.Reader { return r },
	"one byte at a time":   iotest.OneByteReader,
	"in halves":            iotest.HalfReader,
	"with the end at once": iotest.DataErrReader,
}

func TestReaders(t *testing.T) {
	for _, c := range cases {
		for how, arrive := range arrivals {
			check := func(what string, r *framed.Reader, want string) {
				t.Helper()
				out, err := readAll(r)
				// The header of an over-long frame is valid until its last byte.
				if got := string(out); got != want && !(how == "one byte at a time" && strings.HasPrefix(got, want) && len(got) == len(want)+3) {
					t.Errorf("%s, %s, %s: got %q, want %q", c.name, how, what, got, want)
				}
				if text := errText(err); text != c.err {
					t.Errorf("%s, %s, %s: error %q, want %q", c.name, how, what, text, c.err)
				}
				if _, again := r.Next(); c.err != "" && again != err {
					t.Errorf("%s, %s, %s: a second read said %v", c.name, how, what, again)
				}
			}
			check("Unframe", framed.Unframe(pieces(arrive(bytes.NewReader(c.in))), c.max), c.out)
			if how == "in halves" && c.err != "" {
				continue // how much of a bad header passes depends on the pieces
			}
			check("Pass", framed.Pass(pieces(arrive(bytes.NewReader(c.in))), c.max), string(c.in[:c.pass]))
		}
	}
}

func TestReaderHandsOnTheErrorBelow(t *testing.T) {
	broken := errors.New("reset")
	in := io.MultiReader(bytes.NewReader(frames("ab", "xyz")[:12]), iotest.ErrReader(broken))
	out, err := readAll(framed.Unframe(pieces(in), 0))
	if string(out) != "abxy" || err != broken {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestWriter(t *testing.T) {
	for _, c := range []struct {
		name string
		max  int64
		do   func(w *framed.Writer)
		out  []byte
		err  string
	}{
		{"nothing", 0, func(w *framed.Writer) {}, nil, ""},
		{"a chunk is a frame", 0, func(w *framed.Writer) { put(w, "ab", "c") }, frames("ab", "c"), ""},
		{"no bytes are no chunk", 0, func(w *framed.Writer) { put(w, "", "c") }, frames("c"), ""},
		{"a chunk above the maximum is several frames", 2, func(w *framed.Writer) { put(w, "abcde", "f") }, frames("ab", "cd", "e", "f"), ""},
		{"an announced chunk in pieces is one frame", 0, func(w *framed.Writer) { w.Begin(5); put(w, "ab", "cde", "f") }, frames("abcde", "f"), ""},
		{"an announced chunk above the maximum", 3, func(w *framed.Writer) { w.Begin(5); put(w, "ab", "cde", "f") }, frames("abc", "de", "f"), ""},
		{"the rest behind an announced chunk", 0, func(w *framed.Writer) { w.Begin(1); put(w, "abc") }, frames("a", "bc"), ""},
		{"a chunk is announced once", 0, func(w *framed.Writer) { w.Begin(3); w.Begin(9); w.Begin(-1); put(w, "abc") }, frames("abc"), ""},
		{
			"the end within an announced chunk", 0, func(w *framed.Writer) { w.Begin(5); put(w, "ab") }, frames("abcde")[:6],
			"Byte-stream ended with 6 bytes of incomplete frame data. The stream was truncated mid-frame.",
		},
	} {
		var b bytes.Buffer
		w := framed.Frame(&b, c.max)
		c.do(w)
		if !bytes.Equal(b.Bytes(), c.out) || errText(w.End()) != c.err {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, b.Bytes(), w.End(), c.out, c.err)
		}
	}
}

func TestWriterStopsAtAnError(t *testing.T) {
	for limit := range int64(12) {
		w := framed.Frame(&limited{n: limit}, 3)
		if n, err := w.Write([]byte("abcdef")); err != io.ErrShortWrite || n > 6 {
			t.Errorf("with room for %d bytes: %d, %v", limit, n, err)
		}
	}
}

func TestRefusedStreamsAreToldApartByType(t *testing.T) {
	_, err := readAll(framed.Pass(pieces(bytes.NewReader(frames("abc"))), 2))
	if e, ok := errors.AsType[*framed.LengthError](err); !ok || e.Length != 3 || e.Max != 2 {
		t.Errorf("%#v", err)
	}
	_, err = readAll(framed.Pass(pieces(bytes.NewReader(frames("abc")[:6])), 0))
	if e, ok := errors.AsType[*framed.TruncatedError](err); !ok || e.Bytes != 6 {
		t.Errorf("%#v", err)
	}
}

func FuzzReaders(f *testing.F) {
	for _, c := range cases {
		f.Add(c.in, uint32(c.max), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint32, piece uint8) {
		max := int64(limit)
		if max == 0 {
			max = framed.MaxLength
		}
		payloads, want := split(in, max)
		in1, in2 := slices.Clone(in), slices.Clone(in)

		r := framed.Unframe(&source{r: bytes.NewReader(in1), buf: make([]byte, int(piece)+1)}, int64(limit))
		out, err := readAll(r)
		if !bytes.Equal(out, bytes.Join(payloads, nil)) || errText(err) != errText(want) {
			t.Fatalf("Unframe(%q) = %q, %v; want %q, %v", in, out, err, payloads, want)
		}
		r = framed.Pass(&source{r: bytes.NewReader(in2), buf: make([]byte, int(piece)+1)}, int64(limit))
		out, err = readAll(r)
		if !bytes.HasPrefix(in, out) || errText(err) != errText(want) {
			t.Fatalf("Pass(%q) = %q, %v; want %v", in, out, err, want)
		}
		if _, long := errors.AsType[*framed.LengthError](want); !long && len(out) != len(in) {
			t.Fatalf("Pass(%q) = %q", in, out)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("abcdefgh"), uint8(3), uint8(5), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, chunk, limit, announced uint8) {
		var b bytes.Buffer
		w := framed.Frame(&b, int64(limit))
		w.Begin(min(int64(announced), int64(len(in))))
		for c := range slices.Chunk(in, int(chunk)+1) {
			put(w, string(c))
		}
		if w.End() != nil {
			t.Fatal(w.End())
		}
		r := framed.Unframe(&source{r: &b, buf: make([]byte, int(announced)+1)}, int64(limit))
		if out, err := readAll(r); err != nil || !bytes.Equal(out, in) {
			t.Fatalf("%q, %v; want %q", out, err, in)
		}
	})
}

// BenchmarkUnframe shows that the cost is one move per payload, whatever the
// size of a frame is; compare 16-byte with 64 KiB frames.
func BenchmarkUnframe(b *testing.B) {
	for name, size := range map[string]int{"16B": 16, "1KiB": 1 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			stream := bytes.Repeat(frames(strings.Repeat("x", size)), max(1, 4<<20/size))
			buf := make([]byte, 64<<10)
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				r := framed.Unframe(&source{r: bytes.NewReader(stream), buf: buf}, 0)
				for {
					if _, err := r.Next(); err != nil {
						break
					}
				}
			}
		})
	}
}

func put(w *framed.Writer, chunks ...string) {
	for _, c := range chunks {
		if n, err := w.Write([]byte(c)); n != len(c) || err != nil {
			panic(err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// source hands out what r reads, at most len(buf) bytes at a time.
type source struct {
	r   io.Reader
	buf []byte
}

func (s *source) Next() ([]byte, error) {
	n, err := s.r.Read(s.buf)
	return s.buf[:n], err
}

func pieces(r io.Reader) *source { return &source{r: r, buf: make([]byte, 512)} }

func readAll(r *framed.Reader) (out []byte, err error) {
	for {
		p, err := r.Next()
		out = append(out, p...)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// limited takes n bytes.
type limited struct{ n int64 }

func (w *limited) Write(p []byte) (int, error) {
	n := min(int64(len(p)), w.n)
	if w.n -= n; n < int64(len(p)) {
		return int(n), io.ErrShortWrite
	}
	return int(n), nil
}
