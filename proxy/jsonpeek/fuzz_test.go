package jsonpeek

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// walk finds tokens in the valid JSON document that d reads with
// encoding/json's own tokens, the first member of a name counting.
func walk(d *json.Decoder, tokens []token) (raw json.RawMessage, found bool) {
	if len(tokens) == 0 {
		err := d.Decode(&raw)
		return raw, err == nil
	}
	opening, err := d.Token()
	if err != nil {
		return nil, false
	}
	skip := func() { var v json.RawMessage; _ = d.Decode(&v) }
	switch opening {
	case json.Delim('{'):
		for d.More() {
			name, _ := d.Token()
			if name == tokens[0].name {
				return walk(d, tokens[1:])
			}
			skip()
		}
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if i == tokens[0].index {
				return walk(d, tokens[1:])
			}
			skip()
		}
	}
	return nil, false
}

func seeds(f *testing.F) {
	for _, doc := range []string{
		`{"type":"presence","user":"u1","seq":12}`,
		` { "a\u0062" : [ 1 , { "c" : "\ud83d\ude00" } ] , "ab" : null } `,
		`{"a":{"type":"no"},"type":"yes","type":"again"}`,
		`{"s":"\\\"}]","t":[[["]"]]],"type":true}`,
		`[{"type":-0.5e10}]`,
		`{"type":"` + strings.Repeat("long ", 30) + `\n"}`,
		`{"type`, `{"type":[}]}`, "{\"\xFF\":\"\xFE\"}", `"text"`,
	} {
		for _, pointer := range []string{"/type", "/ab/1/c", "/0/type", "/"} {
			f.Add([]byte(doc), pointer, uint16(len(doc)/2))
		}
	}
}

func FuzzFind(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, doc []byte, pointer string, cut uint16) {
		p, err := Compile(pointer)
		if err != nil {
			return
		}
		raw, r := p.Find(doc)
		if (raw != nil) != (r == Found) || r > Malformed {
			t.Fatalf("%q, %v", raw, r)
		}
		if r == Found && (!json.Valid(raw) || !bytes.Contains(doc, raw)) {
			t.Fatalf("%s in %q: %q is no JSON value of it", pointer, doc, raw)
		}
		// A prefix never says other than the whole, only that it ended.
		part, partR := p.Find(doc[:min(int(cut), len(doc))])
		if partR != Truncated && (partR != r || !bytes.Equal(part, raw)) {
			t.Fatalf("%s in %q: %q, %v; its first %d bytes: %q, %v", pointer, doc, raw, r, cut, part, partR)
		}
		// encoding/json replaces what is not UTF-8, Find keeps it.
		if !json.Valid(doc) || !utf8.Valid(doc) || !utf8.ValidString(pointer) {
			return
		}
		want, found := walk(json.NewDecoder(bytes.NewReader(doc)), p.tokens)
		if found != (r == Found) || !bytes.Equal(raw, want) || !found && r != Absent {
			t.Fatalf("%s in %q: %q, %v; encoding/json has %q, %v", pointer, doc, raw, r, want, found)
		}
	})
}

// keyOf makes a key from encoding/json's idea of the values.
func keyOf(k *Key, doc []byte) (key string, r Result) {
	var parts []string
	last := -1
	for i, p := range k.pointers {
		raw, found := walk(json.NewDecoder(bytes.NewReader(doc)), p.tokens)
		text := string(raw)
		if found {
			last = i
			switch raw[0] {
			case '"':
				_ = json.Unmarshal(raw, &text)
			case '{', '[':
				return "", Malformed
			}
		}
		parts = append(parts, text)
	}
	if last < 0 {
		return "", Absent
	}
	key = strings.Join(parts[:last+1], ":")
	return key[:min(len(key), MaxKey)], Found
}

func FuzzKey(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, doc []byte, pointer string, cut uint16) {
		pointers := []string{pointer}
		if cut&1 != 0 {
			pointers = append(pointers, "/type")
		}
		k, err := NewKey(pointers)
		if err != nil {
			return
		}
		before := bytes.Clone(doc)
		key, r := k.Append(make([]byte, 0, 8), doc)
		if r == Found && len(key) > MaxKey || r != Found && key != nil {
			t.Fatalf("%q, %v", key, r)
		}
		if !bytes.Equal(doc, before) {
			t.Fatalf("the document became %q", doc)
		}
		if !json.Valid(doc) || !utf8.Valid(doc) || !utf8.ValidString(pointer) {
			return
		}
		if want, wantR := keyOf(k, doc); string(key) != want || r != wantR {
			t.Fatalf("%q of %q: %q, %v; encoding/json has %q, %v", pointers, doc, key, r, want, wantR)
		}
	})
}

// Documents that begin with the decisive bytes of another have its key. Of a key
// of 64 bytes and more it may be unknown what decides it, depending on how the
// words fall that it is read by.
func FuzzDecisive(f *testing.F) {
	f.Add([]byte(`{"type":"presence","n":1}`), []byte(`,"type":"other"}`))
	f.Add([]byte(`{"a":{"type":"x"},"type":"y"}`), []byte(`\\"`))
	f.Add([]byte(`{"type":"a\u0062"}`), []byte(``))
	k, err := NewKey([]string{"/type"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc, tail []byte) {
		key, decisive, r := k.AppendFrom(nil, doc)
		if decisive == 0 {
			return
		}
		other := append(bytes.Clone(doc[:decisive]), tail...)
		again, n, r2 := k.AppendFrom(nil, other)
		if r != Found || r2 != Found || n != decisive && n != 0 || !bytes.Equal(again, key) {
			t.Fatalf("%q has the key %q by %d bytes; %q has %q by %d, %v", doc, key, decisive, other, again, n, r2)
		}
	})
}
