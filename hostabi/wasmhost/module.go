// Package wasmhost runs one policy module on wazero: it validates, loads,
// pools, calls, bounds and closes it (ABI.md §8).
//
// Guest code runs on the caller's goroutine and is ended there: Load rewrites
// the module so that it keeps asking the host whether its time is up (package
// rewrite), which costs no goroutine and no watchdog per call and also
// ends code that never loops.
package wasmhost

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"weir/hostabi"
)

// Module is a loaded policy: a fixed pool of interchangeable instances.
type Module struct {
	opts  Options
	code  *code
	shape []byte
	epoch time.Time // zero of the clock that deadlines are read on

	log, guestLog *logger

	// slots holds every instance that is idle. One slot that faulted is out
	// until it is replaced; while closing, an empty slot comes back as nil, so
	// Close has collected everything when it has received len(slots) times.
	slots    chan *instance
	urgent   chan *instance // takes one, past slots, to a classify call that waits
	out      atomic.Int64   // slots whose instance has failed and is not replaced yet
	breakers [hostabi.NumHooks]*breaker
	down     [hostabi.NumHooks]*Fault // answers while the hook's breaker is open

	done      chan struct{} // closed by Close
	closing   sync.Once
	healing   sync.WaitGroup // replacements in progress, and trimming
	replaceMu sync.Mutex     // held while a faulted instance is replaced, and after
	makeMu    sync.Mutex     // held while an instance is made

	spare    chan *instance // at most one, waiting to replace one that has grown
	renewing atomic.Bool    // it is being made
	growth   atomic.Int64   // bytes that an instance may grow by

	calls    atomic.Int64
	faults   atomic.Int64
	retired  atomic.Int64
	live     atomic.Int64 // instances that exist
	memBytes atomic.Int64 // of their linear memories
	grown    atomic.Int64 // bytes that those of all instances ever grew by after configure
}

var (
	errBreakerOpen = errors.New("not called after repeated faults")
	errClosed      = errors.New("the module is closed")
	errDiffers     = errors.New("weir_configure answers differently than at load")
)

// Shape is the output of weir_configure; nil if the module has no such hook or
// no opinion.
func (m *Module) Shape() []byte { return m.shape }

// Has says whether the module exports the hook.
func (m *Module) Has(h hostabi.Hook) bool { return m.code.Has[h] }

// Call asks the hook with the encoded input and returns its output appended to
// out[:0]. A module without the hook has no opinion. The error is a *Fault.
func (m *Module) Call(h hostabi.Hook, in, out []byte) ([]byte, hostabi.Result, error) {
	return m.ask(h, nil, in, out[:0])
}

// Ask is Call for one that may have to wait with many others.
func (m *Module) Ask(h hostabi.Hook, who Caller) ([]byte, hostabi.Result, error) {
	return m.ask(h, who, nil, nil)
}

func (m *Module) ask(h hostabi.Hook, who Caller, in, out []byte) ([]byte, hostabi.Result, error) {
	if !m.code.Has[h] {
		return out, hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration), nil
	}
	out, r, f := m.call(h, who, in, out, m.now())
	m.calls.Add(1)
	if f != nil {
		m.faults.Add(1)
		return out[:0], 0, f
	}
	return out, r, nil
}

func (m *Module) call(h hostabi.Hook, who Caller, in, out []byte, start time.Duration) ([]byte, hostabi.Result, *Fault) {
	breaker := m.breakers[h]
	ok, trial := breaker.allow(m.epoch.Add(start))
	if !ok {
		return out, 0, m.down[h]
	}
	inst, err := m.take(h, who)
	if err != nil {
		breaker.cancel(trial)
		return out, 0, m.fault(h, Unavailable, err)
	}
	why := Unavailable
	if who != nil {
		err = m.contain(func() error { in, out = who.Input(); return nil })
	}
	if len(in) > hostabi.MaxInput {
		why, err = Input, fmt.Errorf("input of %d bytes exceeds %d", len(in), hostabi.MaxInput)
	}
	if err != nil {
		m.give(inst)
		breaker.cancel(trial)
		return out, 0, m.fault(h, why, err)
	}
	var r hostabi.Result
	kind := Trap
	call := func() (err error) {
		out, r, kind, err = inst.call(h, in, out, m.opts.CallTimeout)
		return err
	}
	err = m.contain(call)
	for err != nil && inst.absent > 0 {
		if inst, err = m.completed(inst, start); err != nil {
			m.refill() // as in discard
			f := m.fault(h, Unavailable, err)
			if _, late := errors.AsType[*LateError](err); late {
				breaker.cancel(trial)
			} else {
				m.failed(f, trial)
			}
			return out, 0, f
		}
		err = m.contain(call)
	}
	if err == nil {
		m.put(inst)
		breaker.success(trial)
		return out, r, nil
	}
	f := m.fault(h, kind, err)
	m.discard(inst, f, trial)
	return out, 0, f
}

// completed returns an instance that has the function that in missed, in its
// place. When all that a call which began at start missed takes very long, the
// last of it goes on without the caller.
func (m *Module) completed(in *instance, start time.Duration) (*instance, error) {
	grown := make(chan error, 1)
	m.healing.Go(func() { // as in discard
		grown <- m.contain(in.complete)
		m.trimLater()
	})
	limit := max(growthWait, wall(m.opts.CallTimeout))
	wait := time.NewTimer(start + limit - m.now())
	defer wait.Stop()
	select {
	case err := <-grown:
		if err != nil {
			return nil, err
		}
	case <-wait.C:
		return nil, &LateError{"what it had not called before was not compiled", limit}
	}
	return m.alike()
}

func (m *Module) fault(h hostabi.Hook, k Kind, err error) *Fault {
	return &Fault{Policy: m.opts.Name, Hook: h, Kind: k, Err: err}
}

// now is the time since the module was loaded, on the monotonic clock.
func (m *Module) now() time.Duration { return time.Since(m.epoch) }

// Close refuses further calls, waits for those in flight (each ends within 10
// times the call timeout), closes every instance and joins the replacements. The compiled
// code is freed with the last Module loaded from the same bytes.
func (m *Module) Close() {
	m.closing.Do(func() {
		close(m.done)
		for range cap(m.slots) {
			if in := <-m.slots; in != nil {
				in.close()
			}
		}
		m.healing.Wait()
		select {
		case in := <-m.spare:
			in.close()
		default:
		}
		m.code.release()
		m.closeLogs()
	})
}

// closeLogs tells what no line will tell any more.
func (m *Module) closeLogs() {
	m.log.close()
	m.guestLog.close()
}
