package jsonpeek

import (
	"encoding/json"
	"strings"
	"testing"
)

// message has "type" first, as the real dialects do, and n bytes in all.
func message(n int) []byte {
	head := `{"type":"presence","user":"u-4711","data":{"x":1.5,"y":[2,3]},"body":"`
	return []byte(head + strings.Repeat("x", n-len(head)-2) + `"}`)
}

func BenchmarkKey(b *testing.B) {
	one, two := newKey(b, "/type"), newKey(b, "/type", "/user")
	last := []byte(`{"body":"` + strings.Repeat("x", 1000) + `","type":"presence"}`)
	for _, c := range []struct {
		name string
		k    *Key
		doc  []byte
	}{
		{"128B", one, message(128)},
		{"1KiB", one, message(1 << 10)},
		{"1KiB/two fields", two, message(1 << 10)},
		{"1KiB/type last", one, last},
		{"1KiB/absent", newKey(b, "/none"), message(1 << 10)},
		{"escaped", one, []byte(`{"type":"pr\u0065sence","user":"u-4711"}`)},
	} {
		b.Run(c.name, func(b *testing.B) {
			scratch := make([]byte, 0, MaxKey)
			b.ReportAllocs()
			for b.Loop() {
				c.k.Append(scratch, c.doc)
			}
		})
	}
}

// BenchmarkSkip passes over 64 KiB of one shape to the field behind it, beside
// encoding/json's check of the same bytes.
func BenchmarkSkip(b *testing.B) {
	p := compile(b, "/type")
	for name, unit := range map[string]string{
		"text": strings.Repeat("lorem ipsum ", 5000), "escapes": strings.Repeat(`\"`, 32000),
		"objects": "", "numbers": "",
	} {
		value := `"` + unit + `"`
		switch name {
		case "objects":
			value = "[" + strings.Repeat(`{"id":"abc","n":12},`, 3200) + "1]"
		case "numbers":
			value = "[" + strings.Repeat(`1234.5,`, 9000) + "1]"
		}
		doc := []byte(`{"data":` + value + `,"type":"x"}`)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, r := p.Find(doc); r != Found {
					b.Fatal(r)
				}
			}
		})
		b.Run(name+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				if !json.Valid(doc) {
					b.Fatal("not valid")
				}
			}
		})
	}
}
