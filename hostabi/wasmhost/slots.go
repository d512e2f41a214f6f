package wasmhost

import (
	"errors"
	"fmt"
	"time"

	"weir/hostabi"
)

// errFailed is that no call can be made, not that others are being made.
var errFailed = errors.New("every instance has failed and is being replaced")

// Caller is who asks a hook. While others have every instance nothing is held for its
// call: thousands may wait.
type Caller interface {
	// Wait is called before an instance is waited for.
	Wait()
	// Input is called when there is one: the encoded input, and what the output is
	// appended to.
	Input() (in, out []byte)
}

// take waits for an idle instance, at most as long as a call may take, and tells who,
// if not nil, before it does. Messages of
// open tunnels wait for classify, of which there is a budget: it goes before what
// requests are many of.
func (m *Module) take(h hostabi.Hook, who Caller) (*instance, error) {
	select {
	case in := <-m.slots:
		return m.taken(in)
	case <-m.done:
		return nil, errClosed
	default:
	}
	var urgent chan *instance
	if h == hostabi.Classify {
		urgent = m.urgent
	}
	if who != nil {
		who.Wait()
	}
	limit := wall(m.opts.CallTimeout)
	wait := time.NewTimer(limit)
	defer wait.Stop()
	select {
	case in := <-m.slots:
		return m.taken(in)
	case in := <-urgent:
		return in, nil
	case <-m.done:
		return nil, errClosed
	case <-wait.C:
		if m.out.Load() == int64(cap(m.slots)) {
			return nil, errFailed
		}
		return nil, &LateError{fmt.Sprintf("none of %d instances was free", cap(m.slots)), limit}
	}
}

// give makes in idle, or hands it to who waits and goes first.
func (m *Module) give(in *instance) {
	select {
	case m.urgent <- in:
	default:
		m.slots <- in
	}
}

// taken gives back what Close is waiting for.
func (m *Module) taken(in *instance) (*instance, error) {
	if in == nil {
		m.slots <- nil
		return nil, errClosed
	}
	return in, nil
}
