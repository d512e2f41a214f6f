package wasmhost

import (
	"bytes"
	"fmt"
	"time"
)

// Bounds of replacement.
const (
	healFirst = 100 * time.Millisecond // pause after a replacement that failed
	healMax   = 30 * time.Second       // and at most, doubling
	healShare = 9                      // rest this many times as long as a replacement took
	restMax   = time.Second
)

// discard closes an instance that faulted and has its slot filled again in the
// background.
func (m *Module) discard(in *instance, f *Fault, trial bool) {
	// Close waits for healing after it has collected every slot, and this one is
	// not collected before heal has filled it: so Go happens before Wait.
	defer m.refill()
	in.close()
	m.failed(f, trial)
}

// refill has a slot filled again, whose instance is no more.
func (m *Module) refill() {
	m.out.Add(1)
	m.healing.Go(m.heal)
}

// failed counts a call that failed, and tells it.
func (m *Module) failed(f *Fault, trial bool) {
	opened, wait := m.breakers[f.Hook].failure(time.Now(), trial)
	m.log.say("warn", fmt.Sprintf("hook %s: %s: %s", f.Hook, f.Kind, firstLine(f.Err)))
	if opened {
		m.log.say("error", fmt.Sprintf("hook %s: not called for %v after repeated faults", f.Hook, wait))
	}
}

// heal fills one slot: with a new instance, or with nil once the module closes.
func (m *Module) heal() {
	for pause := healFirst; ; pause = min(2*pause, healMax) {
		done := false
		_ = m.contain(func() error {
			done = m.replace()
			return nil
		})
		if done {
			return
		}
		if !m.rest(pause) {
			m.slots <- nil
			return
		}
	}
}

// replace makes one instance and puts it into the pool. Replacements rest in
// between, so that a guest that keeps faulting takes a tenth of a core, or a third
// if it takes all the time that it has to start.
func (m *Module) replace() bool {
	m.replaceMu.Lock()
	defer m.replaceMu.Unlock()
	in, took := m.another()
	if in == nil {
		return false
	}
	m.out.Add(-1)
	m.give(in)
	m.rest(min(healShare*took, restMax))
	return true
}

// another makes one more instance, as at load, and says how long it took; nil
// when it cannot, or when the module closes. They are made one at a time.
func (m *Module) another() (*instance, time.Duration) {
	m.makeMu.Lock()
	defer m.makeMu.Unlock()
	select {
	case <-m.done:
		return nil, 0
	default:
	}
	start := m.now()
	in, err := m.alike()
	if err != nil {
		m.log.say("error", "an instance cannot be replaced: "+firstLine(err))
		return nil, 0
	}
	return in, m.now() - start
}

// alike makes an instance that answers as the first did.
func (m *Module) alike() (in *instance, err error) {
	var shape []byte
	err = m.contain(func() (err error) {
		in, shape, err = makeInstance(m)
		return err
	})
	if err == nil && !bytes.Equal(shape, m.shape) {
		in.close()
		err = errDiffers
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// rest waits for d and reports false when the module closes meanwhile.
func (m *Module) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-m.done:
		return false
	case <-t.C:
		return true
	}
}
