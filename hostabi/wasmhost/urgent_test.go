package wasmhost

import (
	"testing"
	"testing/synctest"

	"weir/hostabi"
)

// Requests are as many as clients like, and each may wait for the instance that an
// open tunnel needs for a kind of message that is new.
func TestAnOpenTunnelWaitsBehindNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModule(Options{Instances: 1})
		m.code = &code{}
		order := make(chan hostabi.Hook, 5)
		for _, h := range []hostabi.Hook{hostabi.Admit, hostabi.Admit, hostabi.Admit, hostabi.Classify, hostabi.FramingHook} {
			go func() {
				in, err := m.take(h, nil)
				if err != nil {
					t.Error(err)
					return
				}
				order <- h
				m.put(in)
			}()
			synctest.Wait() // it waits
		}
		m.put(&instance{})
		synctest.Wait()
		if h := <-order; h != hostabi.Classify {
			t.Errorf("%s went first", h)
		}
		if n := len(order); n != 4 {
			t.Errorf("%d others followed, not 4", n)
		}
	})
}
