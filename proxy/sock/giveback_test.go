package sock

import (
	"net"
	"os"
	"testing"
)

// full is a TCP that takes nothing, and tells before it says so.
type full struct {
	net.TCPConn
	told func()
}

func (f *full) Write([]byte) (int, error) {
	f.told()
	return 0, os.ErrDeadlineExceeded
}

// A writer may note a record while who closes sends it, and an answer to a key update has
// come behind it: what another connection gets to write to has none of its records.
func TestWhatIsGivenBackHasNoRecords(t *testing.T) {
	first, answer := &ciphertext{b: []byte("record")}, &ciphertext{b: []byte("answer")}
	s := &secure{out: first}
	s.tcp = &full{told: func() {
		s.mu.Lock()
		s.out = answer
		s.mu.Unlock()
		s.note(1)
	}}
	if left, _ := s.push(); left != len("recordanswer") {
		t.Errorf("%d bytes are left", left)
	}
	if n := len(answer.records); n > 0 {
		t.Errorf("what was given back has %d records", n)
	}
	if n := len(first.records); n != 1 || first.records[0].end != len(first.b) {
		t.Errorf("what is left has the records %v", first.records)
	}
}
