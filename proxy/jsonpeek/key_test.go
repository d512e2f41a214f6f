package jsonpeek

import (
	"strings"
	"testing"
	"unsafe"
)

func newKey(t testing.TB, pointers ...string) *Key {
	t.Helper()
	k, err := NewKey(pointers)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKey(t *testing.T) {
	one, two, three := []string{"/type"}, []string{"/type", "/status"}, []string{"/a", "/b", "/c/d"}
	long := strings.Repeat("k", 300)
	for _, c := range []struct {
		pointers  []string
		doc, want string
		r         Result
	}{
		{one, `{"type":"presence"}`, "presence", Found},
		{one, `{"type":""}`, "", Found},
		{one, `{"type":12.50}`, "12.50", Found},
		{one, `{"type":true}`, "true", Found},
		{one, `{"type":null}`, "null", Found},
		{one, `{"type":"a\tb\/\u00e9\ud83d\ude00"}`, "a\tb/é😀", Found},
		{one, `{"type":"\ud83d."}`, "\uFFFD.", Found},
		{one, `{"type":"\ud83d\u0041"}`, "\uFFFDA", Found},
		{one, "{\"type\":\"\xFFa\"}", "\xFFa", Found},
		{one, `{"type":"` + long + `"}`, long[:MaxKey], Found},
		{one, `{"type":"\u006b` + long + `"}`, long[:MaxKey], Found},
		{one, `{"type":` + strings.Repeat("9", 300) + `}`, strings.Repeat("9", MaxKey), Found},
		{one, `{"other":1}`, "", Absent},
		{one, `{"type":"pres`, "", Truncated},
		{one, `{"type":12`, "", Truncated},
		{one, `{"type":{}}`, "", Malformed},
		{one, `{"type":[`, "", Malformed},
		{one, "{\"type\":\"a\x01\"}", "", Malformed},
		{one, `{"type":"\q"}`, "", Malformed},
		{one, `{"type":nope}`, "", Malformed},
		{one, `binary`, "", Malformed},

		{two, `{"type":"response","status":"final"}`, "response:final", Found},
		{two, `{"status":"final","type":"response"}`, "response:final", Found},
		{two, `{"type":"typing"}`, "typing", Found},
		{two, `{"type":"typing","status":""}`, "typing:", Found},
		{two, `{"status":"final"}`, ":final", Found},
		{two, `{}`, "", Absent},
		{two, `{"type":"response","stat`, "", Truncated},
		{two, `{"type":"response","status":[1]}`, "", Malformed},
		{two, `{"type":"` + long + `","status":"x"}`, long[:MaxKey], Found},
		{three, `{"a":1,"c":{"d":false}}`, "1::false", Found},
		{three, `{"b":"\n"}`, ":\n", Found},
		{three, `{"a":"x","c":{"d":{}}}`, "", Malformed},
	} {
		key, r := newKey(t, c.pointers...).Append(nil, []byte(c.doc))
		if string(key) != c.want || r != c.r {
			t.Errorf("%v of %.60q: %q, %v; want %q, %v", c.pointers, c.doc, key, r, c.want, c.r)
		}
		if r != Found && key != nil {
			t.Errorf("%v of %.60q: %v with a key", c.pointers, c.doc, r)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	for _, p := range [][]string{nil, {}, {""}, {"/type", "status"}} {
		if _, err := NewKey(p); err == nil {
			t.Errorf("%q is a key", p)
		}
	}
}

func TestPlainKeyLiesInTheDocument(t *testing.T) {
	doc := []byte(`{"type":"presence","user":1}`)
	scratch := []byte("untouched")
	key, r := newKey(t, "/type").Append(scratch, doc)
	if r != Found || unsafe.SliceData(key) != &doc[9] || cap(key) != len(key) {
		t.Errorf("%q, %v: not the bytes of the document", key, r)
	}
	if string(scratch) != "untouched" {
		t.Errorf("scratch became %q", scratch)
	}
}

func TestKeysDoNotAllocateWithScratch(t *testing.T) {
	scratch := make([]byte, 0, MaxKey)
	for _, c := range []struct {
		name, doc string
		k         *Key
	}{
		{"plain", `{"type":"presence"}`, newKey(t, "/type")},
		{"escaped", `{"type":"pres\u0065nce"}`, newKey(t, "/type")},
		{"escaped and long", `{"type":"\u0065` + strings.Repeat("x", MaxKey-1) + `yz"}`, newKey(t, "/type")},
		{"joined", `{"type":"response","status":"final"}`, newKey(t, "/type", "/status")},
		{"absent", `{"kind":"response"}`, newKey(t, "/type")},
	} {
		doc := []byte(c.doc)
		if n := testing.AllocsPerRun(100, func() { c.k.Append(scratch, doc) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", c.name, n)
		}
	}
}
