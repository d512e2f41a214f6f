package policy

import (
	"testing"
	"time"
	"unsafe"
)

// setBack is t as a clock gives it that was set back by an hour before.
func setBack(t *testing.T, now time.Time) time.Time {
	t.Helper()
	then := now
	*(*uint64)(unsafe.Pointer(&then)) -= 3600 << 30 // time.Time's wall: seconds above 30 bits
	if then.Unix() != now.Unix()-3600 || then.Sub(now) != 0 {
		t.Fatalf("%v is not %v an hour earlier on the wall", then, now)
	}
	return then
}

// A clock that is set back lengthens nothing: neither what is cached, nor how
// long a tunnel whose budget is used up waits for more.
func TestAClockThatIsSetBack(t *testing.T) {
	now := time.Now()
	then := setBack(t, now)
	if nanos(now) != nanos(then) {
		t.Errorf("%d before, %d after", nanos(now), nanos(then))
	}
	var b Budget
	for b.Allow(now) {
	}
	if !b.Allow(then.Add(2 * time.Second)) {
		t.Error("the budget is not refilled")
	}
	m := memo[int]{m: map[string]memoed[int]{"k": {value: 1, until: nanos(now.Add(time.Second))}}}
	if _, ok := m.get([]byte("k"), then.Add(2*time.Second)); ok {
		t.Error("what is out of date is not")
	}
}
