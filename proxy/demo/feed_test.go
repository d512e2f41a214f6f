package demo

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestSpec(t *testing.T) {
	for _, c := range []struct{ in, err string }{
		{`{"rate":1}`, ""},
		{`{"rate":50000,"size":8388608,"seconds":3600}`, ""},
		{`{"rate":0}`, "rate 0 is not between 1 and 50000"},
		{`{"rate":1,"size":-1}`, "size -1 is not between 0 and 8388608"},
		{`{"rate":1,"seconds":3601}`, "seconds 3601 is not between 0 and 3600"},
		{`{"rate":1,"mix":{"cursor":1}}`, `mix names "cursor"`},
		{`{"rate":1,"mix":{"message":0}}`, "mix has no weight above 0"},
		{`{"rate":1,"mix":{"message":-1}}`, "mix message -1 is not between 0 and 1000"},
	} {
		var s feedSpec
		if err := json.Unmarshal([]byte(c.in), &s); err != nil {
			t.Fatal(err)
		}
		err := s.check()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.in, err, c.err)
		}
	}
}

func TestFeed(t *testing.T) {
	for _, size := range []int{0, 64, 128, 1024} {
		f := newFeed(feedSpec{Rate: 1, Size: size, Mix: defaultMix})
		count := map[string]int{}
		var seq float64
		for range 100 {
			b := f.append(nil)
			if len(b) < size || size >= 128 && len(b) != size {
				t.Errorf("size %d: %d bytes: %s", size, len(b), b)
			}
			if !bytes.HasPrefix(b, []byte(`{"type":"`)) {
				t.Errorf("the type is not first: %s", b)
			}
			var e map[string]any
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			kind := e["type"].(string)
			count[kind]++
			if (e["seq"] != nil) != (kind == "message") || (e["id"] != nil) != (kind == "message") {
				t.Errorf("an id and a seq belong to messages alone: %s", b)
			}
			if kind == "message" {
				if seq++; e["seq"] != seq {
					t.Errorf("seq %v, want %v", e["seq"], seq)
				}
			}
			if kind == "presence" && e["user"] == nil {
				t.Errorf("a presence without its user: %s", b)
			}
		}
		for kind, weight := range defaultMix {
			if count[kind] != 10*weight {
				t.Errorf("%d of 100 are %s, want %d", count[kind], kind, 10*weight)
			}
		}
	}
}
