package poll

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// places are the processors that a poller's loops run on, as far as they looked:
// by loop, its processor's number and 1, or 0.
//
// A loop that yields may go on in another thread, and the kernel may have placed
// that where another loop runs. It counts threads that can run, and so leaves both
// there for a tenth of a second: the sockets of each wait for whole time slices of
// the other's (docs/RATIONALE.md, "Why do loops keep apart?").
type places []atomic.Int64

// apart notes where a loop's thread runs, the calling one, and moves it when
// another loop was there last and a processor is free of loops. From there the
// kernel may place it as before.
func (p places) apart(loop int) {
	cpu, ok := currentCPU()
	if !ok {
		return
	}
	p[loop].Store(cpu + 1)
	if !p.taken(loop, cpu) {
		return
	}
	// Another thread must not be left with this one's restriction.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed, only unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		return
	}
	for to := range int64(8 * unsafe.Sizeof(allowed)) {
		if !allowed.IsSet(int(to)) || p.taken(loop, to) {
			continue
		}
		only.Set(int(to))
		if unix.SchedSetaffinity(0, &only) == nil {
			p[loop].Store(to + 1)
			_ = unix.SchedSetaffinity(0, &allowed) // what was allowed is
		}
		return
	}
}

// taken reports whether another loop runs on the processor.
func (p places) taken(loop int, cpu int64) bool {
	for i := range p {
		if i != loop && p[i].Load() == cpu+1 {
			return true
		}
	}
	return false
}

// currentCPU is the number of the processor that the calling thread runs on.
func currentCPU() (cpu int64, ok bool) {
	var n uint32
	_, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&n)), 0, 0)
	return int64(n), errno == 0
}
