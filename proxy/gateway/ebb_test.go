package gateway

import (
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryOfACrowdThatHasLeftIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ofClient = 1 << 20
		g := &Gateway{clients: newClients(), stop: make(chan struct{})}
		var held, freed atomic.Int64
		held.Store(30 << 20)
		come := func(n int) {
			for range n {
				g.clients.admit(netip.Addr{}, 0, 0)
				held.Add(ofClient)
			}
		}
		leave := func(n int) { // what they had is garbage
			for range n {
				g.clients.remove(netip.Addr{})
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.ebb(held.Load, func() {
				freed.Add(1)
				held.Store(int64(30+g.clients.total) << 20)
			})
		}()
		synctest.Wait()
		want := func(who string, times int64) {
			t.Helper()
			time.Sleep(ebbEvery)
			synctest.Wait()
			if freed := freed.Load(); freed != times {
				t.Errorf("%s: memory was given back %d times, want %d", who, freed, times)
			}
		}
		come(31)
		leave(31)
		want("a few that left", 0)
		come(100)
		want("a crowd that is there", 0)
		leave(40)
		want("less than half of it has left", 0)
		leave(15)
		want("more has", 1)
		want("nobody has since", 1)
		leave(45)
		want("all have", 2)
		come(100)
		leave(100)
		want("another crowd", 3)
		close(g.stop)
		<-done
	})
}

func TestMemoryThatIsFreedIsNotHeld(t *testing.T) {
	const size = 64 << 20
	b := make([]byte, size)
	with := heldMemory()
	runtime.KeepAlive(b)
	freeMemory()
	if now := heldMemory(); now > with-size/2 {
		t.Errorf("%d bytes were held, and are %d without %d of them", with, now, size)
	}
}
