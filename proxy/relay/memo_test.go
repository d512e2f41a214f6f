package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// A memo is found by messages that begin with all of its prefix, masked or not.
func TestMemosAreFoundByTheirPrefix(t *testing.T) {
	masks := [][4]byte{{}, {1, 2, 3, 4}, {0xFF, 0, 0x80, 7}}
	for size := memoPrefixMin; size <= memoPrefix; size++ {
		prefix := bytes.Repeat([]byte("abcdefg"), 10)[:size]
		var ms memos
		ms.keep(prefix, "key", &policy.Rule{})
		for _, mask := range masks {
			found := func(payload []byte, more string) bool {
				payload = append(slices.Clone(payload), more...)
				wsframe.Mask(payload, mask, 0)
				return ms.find(payload, spread(mask)) != nil
			}
			if !found(prefix, "and more") || size >= memoMessage && !found(prefix, "") {
				t.Errorf("a prefix of %d bytes is not found, mask %v", size, mask)
			}
			if size > memoMessage && found(prefix[:size-1], "") {
				t.Errorf("a prefix of %d bytes is found without its last, mask %v", size, mask)
			}
			for i := range prefix {
				other := slices.Clone(prefix)
				other[i] ^= 1 << (i & 7)
				if found(other, "and more") {
					t.Errorf("a prefix of %d bytes is found with another byte %d, mask %v", size, i, mask)
				}
			}
		}
	}
}

func TestMemosKeepTheLastFew(t *testing.T) {
	var ms memos
	prefix := func(key int) []byte { return bytes.Repeat([]byte{byte('a' + key)}, memoMessage) }
	for key := range len(ms.of) + 1 {
		ms.keep(prefix(key), fmt.Sprint(key), &policy.Rule{})
	}
	if ms.find(prefix(0), 0) != nil {
		t.Error("the oldest is kept")
	}
	for key := 1; key <= len(ms.of); key++ {
		if m := ms.find(prefix(key), 0); m == nil || m.key != fmt.Sprint(key) {
			t.Errorf("%d: %+v", key, m)
		}
	}
}

// follow stops at the first message that differs in its header or in any byte of
// the prefix, and at none that differs behind it.
func TestFollow(t *testing.T) {
	for _, size := range []int{8, 9, 15, 16, 17, 23, 24} {
		prefix := []byte("abcdefghijklmnopqrstuvwxyz")[:size]
		var ms memos
		ms.keep(prefix, "", &policy.Rule{})
		m := &ms.of[0]
		if !m.short() {
			t.Fatalf("a prefix of %d bytes is not short", size)
		}
		for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
			frame := func(change int, length int) []byte {
				payload := append(bytes.Clone(prefix), bytes.Repeat([]byte("."), length-size)...)
				if change >= 0 {
					payload[change] ^= 0x40
				}
				return wsframe.AppendFrame(nil, wsframe.Text, mask, payload)
			}
			same := frame(-1, 130)
			header, known := binary.LittleEndian.Uint32(same), ^uint32(0)
			count := func(third []byte, most int) int {
				wire := slices.Concat(same, same, third, same, same[:wsframe.MaxHeader])
				return m.follow(wire, header, known, len(same)-130, 130, mask != nil, most)
			}
			for i := range 130 {
				want := 4
				if i < size {
					want = 2
				}
				if got := count(frame(i, 130), 100); got != want {
					t.Errorf("prefix of %d bytes, byte %d differs, mask %v: %d followed, want %d", size, i, mask, got, want)
				}
			}
			if got := count(frame(-1, 131), 100); got != 2 {
				t.Errorf("mask %v: %d followed, and the third has another length", mask, got)
			}
			if got := count(same, 3); got != 3 {
				t.Errorf("mask %v: %d followed, at most 3 may be", mask, got)
			}
			if got := m.follow(same, header, known, len(same)-130, 130, mask != nil, 100); got != 0 {
				t.Errorf("mask %v: followed a message behind which there is no room for a header", mask)
			}
		}
	}
}

// What alike passes over is judged message by message exactly as without it:
// the same rules, the same ends, and nothing that is not a whole, valid frame.
func TestAlikeJudgesLikeTheRest(t *testing.T) {
	settings := []*Settings{realSettings(t), {View: (*policy.Policy)(nil).View("r"), Limits: limits()}}
	most := 0
	seeds := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		seed := seeds.Uint64()
		for d := range hostabi.Direction(2) {
			r := rand.New(rand.NewPCG(seed, uint64(d)))
			wire := randomFrames(r, d)
			set := settings[seed%2]
			set.Limits.MaxMessageSize = 900
			quick, slow := judged(set, d, wire, true), judged(set, d, wire, false)
			if !slices.Equal(quick, slow) {
				t.Fatalf("seed %d, direction %d: %d messages with alike, %d without", seed, d, len(quick), len(slow))
			}
			most = max(most, len(quick))
		}
	}
	if most < 30 {
		t.Errorf("%d messages at most before one was refused: too little is compared", most)
	}
}

// randomFrames are messages of a few kinds, up to four of one kind and length in
// a row, some with a byte changed, the last not whole.
func randomFrames(r *rand.Rand, d hostabi.Direction) (wire []byte) {
	for range 25 {
		kind := []string{"m", "message", "presence", "small", strings.Repeat("long", 12)}[r.IntN(5)]
		whole := []byte(event(kind, 1, 60+r.IntN(900)))
		if kind == "small" && r.IntN(4) > 0 {
			whole = []byte(`{"type":"small" }`)
		}
		opcode := wsframe.Opcode(1 + r.IntN(2))
		for range 1 + r.IntN(4) {
			payload := bytes.Clone(whole)
			if r.IntN(12) == 0 {
				payload[r.IntN(min(30, len(payload)))] ^= byte(1 << r.IntN(7))
			}
			if r.IntN(12) == 0 {
				payload = payload[:min(len(payload), r.IntN(20))]
			}
			var mask *[4]byte
			if d == hostabi.ToUpstream {
				mask = &[4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}
			}
			at := len(wire)
			wire = wsframe.AppendFrame(wire, opcode, mask, payload)
			if r.IntN(60) == 0 {
				wire[at+r.IntN(2)] ^= byte(1 << r.IntN(8))
			}
		}
	}
	return wire[:len(wire)-1-r.IntN(min(100, len(wire)-1))]
}

// judged are the messages of one read up to the first that is refused, no whole
// message or no valid frame.
func judged(set *Settings, d hostabi.Direction, wire []byte, quick bool) []message {
	route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
	route.Store(set)
	tun := New(Options{Route: route, Metrics: sharedMetrics(), Client: Leg{Transport: &null{}}, Upstream: Leg{Transport: &null{}}})
	p := &tun.pumps[d]
	p.set = set
	b := &buffer{data: wire, w: len(wire)}
	p.buf = b
	for {
		if quick && p.plain() {
			p.alike(0)
		}
		h, ok, err := wsframe.Parse(wire[b.r:])
		if !ok || err != nil || p.seq.Check(&h) != nil || !h.Fin || h.Opcode.IsControl() || h.Length > int64(len(wire)-b.r-h.Size) {
			break
		}
		end := b.r + h.Size + int(h.Length)
		rule := p.rule(&h, wire[b.r+h.Size:end])
		if code, _ := p.exceeds(h.Length, rule); code != "" {
			break
		}
		b.r = end
		b.judge(message{rule: rule, end: end})
	}
	return p.each(wire[:b.r], b.msgs)
}
