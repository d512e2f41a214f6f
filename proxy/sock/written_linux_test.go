package sock

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What a peer can have, and no more, is reported as written: a record of TLS that the
// kernel has whole, though those encrypted with it wait for room.
func TestWhatThePeerCanHaveIsWritten(t *testing.T) {
	for _, before := range []int{1, 8 << 10, 16 << 10, 200 << 10} { // the kernel is full somewhere else then
		over(t, func(t *testing.T, a, b leg) {
			n := 0
			for _, p := range [][]byte{random(before), random(8 << 20)} {
				k, err := a.TryWrite(p)
				if n += k; err != nil {
					t.Fatal(err)
				}
			}
			if secured(a) != nil && a.Pending() == 0 {
				t.Fatal("nothing waits")
			}
			endBeneath(t, a)
			if got, err := readAll(b, -1); len(got) != n {
				t.Errorf("%d bytes arrived, and %d were reported; %v", len(got), n, err)
			}
		})
	}
}

// endBeneath sends a FIN behind what the kernel has.
func endBeneath(t *testing.T, a leg) {
	t.Helper()
	var err error
	if l, ok := a.(*Leg); ok {
		err = unix.Shutdown(l.fd, unix.SHUT_WR)
	} else {
		err = a.(*Conn).tcp.CloseWrite()
	}
	if err != nil {
		t.Fatal(err)
	}
}
