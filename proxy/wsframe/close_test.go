package wsframe

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseClose(t *testing.T) {
	for _, c := range []struct {
		payload string
		code    uint16
		reason  string
		bad     uint16 // code of the error, 0 for none
	}{
		{payload: "", code: 1005},
		{payload: "\x03\xE8", code: 1000},
		{payload: "\x03\xE8bye", code: 1000, reason: "bye"},
		{payload: "\x11\x9E\xC3\xA9", code: 4510, reason: "é"},
		{payload: "\x03", bad: 1002},
		{payload: "\x03\xED", bad: 1002}, // 1005
		{payload: "\x00\x00", bad: 1002},
		{payload: "\xFF\xFF", bad: 1002},
		{payload: "\x03\xE8\xFF", bad: 1007},
		{payload: "\x03\xE8\xC3", bad: 1007},
	} {
		code, reason, err := ParseClose([]byte(c.payload))
		if c.bad != 0 {
			if e, is := errors.AsType[*Error](err); !is || e.Code != c.bad {
				t.Errorf("% x: %v, want an error with code %d", c.payload, err, c.bad)
			}
			continue
		}
		if code != c.code || reason != c.reason || err != nil {
			t.Errorf("% x: %d, %q, %v; want %d, %q", c.payload, code, reason, err, c.code, c.reason)
		}
	}
}

func TestValidCloseCodes(t *testing.T) {
	valid := map[uint16]bool{}
	for _, r := range [][2]uint16{{1000, 1003}, {1007, 1014}, {3000, 4999}} {
		for c := r[0]; c <= r[1]; c++ {
			valid[c] = true
		}
	}
	for c := range uint16(65535) {
		if validCloseCode(c) != valid[c] {
			t.Errorf("code %d: valid is %v, want %v", c, !valid[c], valid[c])
		}
	}
}

func TestAppendClose(t *testing.T) {
	e123 := strings.Repeat("e", 123)
	for _, c := range []struct {
		name         string
		code         uint16
		reason, want string
	}{
		{"code and reason", 1000, "bye", "\x88\x05\x03\xE8bye"},
		{"no reason", 1001, "", "\x88\x02\x03\xE9"},
		{"no status", CloseNoStatus, "", "\x88\x00"},
		{"never on the wire", 1006, "abnormal", "\x88\x00"},
		{"longest reason", 1000, e123, "\x88\x7D\x03\xE8" + e123},
		{"one byte too many", 1000, e123 + "e", "\x88\x7D\x03\xE8" + e123},
		{"cut in a rune", 1000, e123[:122] + "é", "\x88\x7C\x03\xE8" + e123[:122]},
		{"cut in a rune of four", 1000, e123[:120] + "😀", "\x88\x7A\x03\xE8" + e123[:120]},
		{"not UTF-8", 1000, "a\xFFb", "\x88\x07\x03\xE8a\uFFFDb"},
	} {
		if got := AppendClose(nil, c.code, c.reason, nil); string(got) != c.want {
			t.Errorf("%s: % x, want % x", c.name, got, c.want)
		}
	}
}

func FuzzClose(f *testing.F) {
	f.Add([]byte(""), "bye")
	f.Add([]byte("\x03\xE8bye"), strings.Repeat("é", 70))
	f.Add([]byte("\x03"), "\xFF")
	f.Fuzz(func(t *testing.T, payload []byte, reason string) {
		code, text, err := ParseClose(payload)
		if err == nil && len(payload) > 0 && len(text) <= MaxCloseReason {
			if back := AppendClose(nil, code, text, nil); string(back[2:]) != string(payload) {
				t.Fatalf("close payload % x was written back as % x", payload, back[2:])
			}
		}
		key := [4]byte{1, 2, 3, 4}
		b := AppendClose(nil, 1000, reason, &key)
		h, ok, err := Parse(b)
		if !ok || err != nil || h.Length > MaxControlPayload || int(h.Length)+h.Size != len(b) {
			t.Fatalf("wrote % x: %+v, %v, %v", b, h, ok, err)
		}
		Mask(b[h.Size:], key, 0)
		code, text, err = ParseClose(b[h.Size:])
		if code != 1000 || err != nil || utf8.ValidString(reason) && !strings.HasPrefix(reason, text) {
			t.Fatalf("reason %q came back as %d, %q, %v", reason, code, text, err)
		}
	})
}
