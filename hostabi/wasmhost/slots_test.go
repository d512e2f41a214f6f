package wasmhost

import (
	"errors"
	"testing"
	"testing/synctest"

	"weir/hostabi"
)

// Who finds no instance free is told whether others have them, which a crowd of clients
// can bring about, or all of them have failed.
func TestABusyPoolIsNoneThatHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModule(Options{Instances: 2})
		for out, busy := range []bool{true, true, false} {
			m.out.Store(int64(out))
			_, err := m.take(hostabi.Admit)
			if _, late := errors.AsType[*LateError](err); late != busy {
				t.Errorf("with %d of 2 to be replaced: %v", out, err)
			}
		}
	})
}
