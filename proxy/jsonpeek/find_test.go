package jsonpeek

import (
	"strings"
	"testing"
)

func compile(t testing.TB, s string) Pointer {
	t.Helper()
	p, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		doc, pointer string
		want         string
		r            Result
	}{
		{`{"type":"a"}`, "/type", `"a"`, Found},
		{`{"n":-1.5e+3,"type":"a"}`, "/n", `-1.5e+3`, Found},
		{`{"n":0}`, "/n", `0`, Found},
		{`{"a":true,"b":false,"c":null}`, "/b", `false`, Found},
		{`{"a":true,"b":false,"c":null}`, "/c", `null`, Found},
		{`{"a":{"b":[1,{"c":"x"}]}}`, "/a/b/1/c", `"x"`, Found},
		{`{"a":{"b":[1,{"c":"x"}]}}`, "/a/b", `[1,{"c":"x"}]`, Found},
		{`[[0],["x"]]`, "/1/0", `"x"`, Found},
		{`{"0":"name"}`, "/0", `"name"`, Found},
		{`{"":1}`, "/", `1`, Found},
		{`{"a/b":1,"m~n":2}`, "/a~1b", `1`, Found},
		{`{"a/b":1,"m~n":2}`, "/m~0n", `2`, Found},
		{`{"~1":1}`, "/~01", `1`, Found},
		{" \t\r\n{ \n\"a\" \t: \r1 , \"b\" : 2 } ", "/b", `2`, Found},
		{`{"a":1,"a":2}`, "/a", `1`, Found},
		{`{"a":{"x":1},"a":{"y":2}}`, "/a/y", "", Absent},
		{`{"\u0074ype":"a"}`, "/type", `"a"`, Found},
		{`{"ty\"pe":1,"type":2}`, "/ty\"pe", `1`, Found},
		{`{"\ud83d\ude00":1}`, "/😀", `1`, Found},
		{`{"😀":1}`, "/😀", `1`, Found},
		{"{\"a\":\"\xFF\"}", "/a", "\"\xFF\"", Found},
		{"{\"\xFF\":0,\"a\":1}", "/a", "1", Found},
		{`{"s":"}],\"{[","a":1}`, "/a", `1`, Found},
		{`{"s":"\\","a":1}`, "/a", `1`, Found},
		{`{"s":"\\\"","a":1}`, "/a", `1`, Found},
		{`{"s":{"t":["}","]","\\"]},"a":1}`, "/a", `1`, Found},
		{`{"a":1} trailing`, "/a", `1`, Found},
		{`{"a":1,`, "/a", `1`, Found},

		{`{}`, "/a", "", Absent},
		{`[]`, "/0", "", Absent},
		{`{"b":1}`, "/a", "", Absent},
		{`[1,2]`, "/2", "", Absent},
		{`[1,2]`, "/-", "", Absent},
		{`[1,2]`, "/01", "", Absent},
		{`[1,2]`, "/9999999999999999999999", "", Absent},
		{`[1,2]`, "/type", "", Absent},
		{`{"a":1}`, "/a/b", "", Absent},
		{`"text"`, "/a", "", Absent},
		{`12`, "/a", "", Absent},
		{`{"aa":1,"":2}`, "/a", "", Absent},
		{`{"type\u0000":1}`, "/type", "", Absent},

		{``, "/a", "", Truncated},
		{`  `, "/a", "", Truncated},
		{`{`, "/a", "", Truncated},
		{`{"`, "/a", "", Truncated},
		{`{"a`, "/a", "", Truncated},
		{`{"a"`, "/a", "", Truncated},
		{`{"a":`, "/a", "", Truncated},
		{`{"a": `, "/a", "", Truncated},
		{`{"a":1`, "/a", "", Truncated},
		{`{"a":tru`, "/a", "", Truncated},
		{`{"a":"x`, "/a", "", Truncated},
		{`{"a":"x\"`, "/a", "", Truncated},
		{`{"a":{"b":1}`, "/c", "", Truncated},
		{`{"a":{"b":[`, "/c", "", Truncated},
		{`{"b":1,`, "/a", "", Truncated},
		{`[1`, "/1", "", Truncated},
		{`[1,`, "/1", "", Truncated},
		{`["\`, "/1", "", Truncated},

		{`x`, "/a", "", Malformed},
		{"\x00\x01", "/a", "", Malformed},
		{`}`, "/a", "", Malformed},
		{`{a:1}`, "/a", "", Malformed},
		{`{"a"1}`, "/a", "", Malformed},
		{`{"b":1 "a":2}`, "/a", "", Malformed},
		{`{"b":1],"a":2}`, "/a", "", Malformed},
		{`{"a":x}`, "/a", "", Malformed},
		{`{"a":}`, "/a", "", Malformed},
		{`{"b":,"a":1}`, "/a", "", Malformed},
		{`{"a":01}`, "/a", "", Malformed},
		{`{"a":-}`, "/a", "", Malformed},
		{`{"a":1.}`, "/a", "", Malformed},
		{`{"a":1e}`, "/a", "", Malformed},
		{`{"a":truth}`, "/a", "", Malformed},
		{`{"a":[}]}`, "/a", "", Malformed},
		{"{\"a\":\"\n\"}", "/a", "", Malformed},
		{`{"a":"\x"}`, "/a", "", Malformed},
		{`{"a":"\u12"}`, "/a", "", Malformed},
	} {
		raw, r := compile(t, c.pointer).Find([]byte(c.doc))
		if string(raw) != c.want || r != c.r {
			t.Errorf("%s in %q: %q, %v; want %q, %v", c.pointer, c.doc, raw, r, c.want, c.r)
		}
	}
}

func TestZeroPointerFindsNothing(t *testing.T) {
	if raw, r := (Pointer{}).Find([]byte(`{"":1}`)); raw != nil || r != Absent {
		t.Errorf("%q, %v", raw, r)
	}
	if !(Pointer{}).IsZero() || compile(t, "/a").IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, s := range []string{"", "type", "#/type", "/~", "/a~2", "/a/b~"} {
		if p, err := Compile(s); err == nil {
			t.Errorf("%q compiled to %v", s, p)
		}
	}
	if s := compile(t, "/a~1b/0").String(); s != "/a~1b/0" {
		t.Errorf("String is %q", s)
	}
}

// Every prefix of a document gives what the whole gives, or Truncated.
func TestPrefixes(t *testing.T) {
	doc := ` { "skip" : [ "\\\"}", { "x" : -1.5 } ] , "a\u0062" : { "c" : [ true , "found" ] } } `
	p := compile(t, "/ab/c/1")
	for n := range len(doc) + 1 {
		want, wantR := "", Truncated
		if end := strings.Index(doc, `"found"`) + len(`"found"`); n >= end {
			want, wantR = `"found"`, Found
		}
		if raw, r := p.Find([]byte(doc[:n])); string(raw) != want || r != wantR {
			t.Errorf("in %q: %q, %v; want %v", doc[:n], raw, r, wantR)
		}
	}
}

// A value's place among the words that are looked at together must not matter.
func TestEveryAlignment(t *testing.T) {
	p := compile(t, "/type")
	for n := range 200 {
		for _, filler := range []string{"x", `\"`, `\\`, "é"} {
			s := strings.Repeat(filler, n)
			doc := `{"pad":"` + s + `","deep":[{"` + s + `":"` + s + `"},"]"],"type":"t` + s + `"}`
			if raw, r := p.Find([]byte(doc)); string(raw) != `"t`+s+`"` || r != Found {
				t.Fatalf("%d × %s: %q, %v", n, filler, raw, r)
			}
		}
	}
}

func TestDeepNesting(t *testing.T) {
	const depth = 100000
	open, shut := strings.Repeat(`{"a":[`, depth), strings.Repeat(`]}`, depth)
	p := compile(t, "/type")
	if raw, r := p.Find([]byte(`{"deep":` + open + shut + `,"type":"x"}`)); string(raw) != `"x"` || r != Found {
		t.Errorf("behind %d levels: %q, %v", depth, raw, r)
	}
	if _, r := p.Find([]byte(`{"deep":` + open)); r != Truncated {
		t.Errorf("inside %d levels: %v, want truncated", depth, r)
	}
	if _, r := p.Find([]byte(`{"type":` + open + shut + `}`)); r != Malformed {
		t.Errorf("a value of %d levels: %v, want malformed", depth, r)
	}
	if _, r := compile(t, strings.Repeat("/a/0", 63)+"/z").Find([]byte(open + shut)); r != Absent {
		t.Errorf("a pointer of 127 steps: %v, want absent", r)
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	p := compile(t, "/b/id")
	doc := []byte(`{"a":["x",{"y":"\u0041"}],"b":{"id":"\u0041bc"}}`)
	if n := testing.AllocsPerRun(100, func() {
		if _, r := p.Find(doc); r != Found {
			t.Fatal(r)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
