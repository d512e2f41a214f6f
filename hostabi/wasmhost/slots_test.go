package wasmhost

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasmtest"
)

// Who finds no instance free is told whether others have them, which a crowd of clients
// can bring about, or all of them have failed.
func TestABusyPoolIsNoneThatHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModule(Options{Instances: 2})
		for out, busy := range []bool{true, true, false} {
			m.out.Store(int64(out))
			_, err := m.take(hostabi.Admit, nil)
			if _, late := errors.AsType[*LateError](err); late != busy {
				t.Errorf("with %d of 2 to be replaced: %v", out, err)
			}
		}
	})
}

// caller notes what it is told.
type caller struct{ told []string }

func (c *caller) Wait() { c.told = append(c.told, "wait") }

func (c *caller) Input() (in, out []byte) {
	c.told = append(c.told, "input")
	return make([]byte, hostabi.MaxInput+1), nil
}

// The input is made when there is an instance, and one that is too long takes none.
func TestInputIsMadeForAnInstance(t *testing.T) {
	m := load(t, Interpreter, NewGuest().Build(), func(o *Options) { o.Instances = 1 })
	first := &caller{}
	for range 2 {
		if _, _, err := m.Ask(hostabi.Admit, first); !strings.Contains(fmt.Sprint(err), "input of 65537 bytes exceeds 65536") {
			t.Error(err)
		}
	}
	in, err := m.take(hostabi.Admit, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := &caller{}
	if _, _, err := m.Ask(hostabi.Admit, last); !strings.Contains(fmt.Sprint(err), "none of 1 instances was free") {
		t.Error(err)
	}
	m.put(in)
	if got := fmt.Sprint(first.told, last.told); got != "[input input] [wait]" {
		t.Error(got)
	}
}
