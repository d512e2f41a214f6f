package wasmhost

import "fmt"

// Bounds of growth (ABI.md §8). A Go guest collects its garbage when its heap
// has 4 MiB, unless told otherwise, which takes it 12 to 25 ms in the
// interpreter: more than a call has. Its start takes well below 1 MiB of them.
// Another instance takes 20 ms, and nobody waits for it.
const (
	growthFirst = 2 << 20 // bytes that memory may grow by after configure, before an instance is retired
	growthMax   = 8 << 20 // and at most, doubling for a guest that needs them
	youngCalls  = 64      // hook calls after which growth is garbage rather than need
	retireShare = 3       // rest this many times as long as making another took
)

// put gives an instance back to the pool after a call. One that has grown keeps
// serving until another is there in its place.
func (m *Module) put(in *instance) {
	if m.due(in) {
		in = m.outgrown(in)
	}
	m.give(in)
}

// due reports whether an instance is to be replaced: it has grown, or there is
// code that was missing when it was made, of which no other copy shall be kept.
func (m *Module) due(in *instance) bool {
	return in.bytes-in.settled > m.growth.Load() || in.core != m.code.core.Load()
}

// outgrown decides what becomes of an instance that has grown, and returns the
// one to serve in its place.
func (m *Module) outgrown(in *instance) *instance {
	if g := m.growth.Load(); in.bytes-in.settled > g && in.calls < youngCalls && g < growthMax {
		m.growth.CompareAndSwap(g, 2*g) // it needs that much: another would grow the same
		return in
	}
	select {
	case fresh := <-m.spare:
		m.retire(in)
		return fresh
	default:
	}
	if m.renewing.CompareAndSwap(false, true) {
		// As in discard: Close has not collected this slot yet.
		m.healing.Go(m.renewed)
	}
	return in
}

func (m *Module) retire(in *instance) {
	why := "others have code that it misses"
	if in.bytes > in.settled {
		why = fmt.Sprintf("its memory grew from %d to %d bytes", in.settled, in.bytes)
	}
	m.log.say("debug", fmt.Sprintf("an instance is replaced after %d calls: %s", in.calls, why))
	m.retired.Add(1)
	in.close()
}

func (m *Module) renewed() {
	defer m.renewing.Store(false)
	_ = m.contain(func() error {
		m.renew()
		return nil
	})
}

// renew makes an instance to replace one that has grown, and puts it in the
// place of one that is idle or of the next that is given back. When it cannot be
// made the old one goes on. At most a quarter of a core goes into this.
func (m *Module) renew() {
	fresh, took := m.another()
	if fresh == nil {
		m.rest(healFirst)
		return
	}
	for range cap(m.slots) {
		select {
		case in := <-m.slots:
			if in != nil && fresh != nil && m.due(in) {
				m.retire(in)
				in, fresh = fresh, nil
			}
			m.slots <- in
		default:
		}
	}
	if fresh != nil {
		select {
		case m.spare <- fresh:
		default: // one is left from before
			fresh.close()
		}
	}
	m.rest(min(retireShare*took, restMax))
}
