package gateway

import (
	"runtime"
	"runtime/debug"
	rm "runtime/metrics"
	"time"
)

const (
	ebbEvery = 10 * time.Second
	ebbFrom  = 16 << 20 // bytes above the least, worth a collection
)

// ebb gives back to the system the memory of a crowd that has left: Go collects what it
// had only when as much is allocated again, or after minutes. It ends with the gateway.
func (g *Gateway) ebb(held func() int64, free func()) {
	least := held()
	for {
		select {
		case <-time.After(ebbEvery):
		case <-g.stop:
			return
		}
		now := held()
		least = min(least, now)
		if now-least >= ebbFrom && g.clients.ebbed() {
			free()
		}
	}
}

// heldMemory is what the process has of the system for Go, in bytes.
func heldMemory() int64 {
	s := []rm.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	rm.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// freeMemory collects twice: what pools keep outlasts the first time.
func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}
