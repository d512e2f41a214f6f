package wasmhost

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tetratelabs/wazero/api"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
)

// WASI error numbers.
const (
	errnoSuccess = 0
	errnoBadf    = 8
	errnoFault   = 21
	errnoInval   = 28
	errnoSpipe   = 70
)

// Bounds of what one WASI call does.
const (
	maxVectors       = 1024
	maxSubscriptions = 64
	randomChunk      = 64 << 10 // bytes between two looks at the deadline
)

// wasiFunctions are what the runtimes of Go, Rust and AssemblyScript need to
// start: a world without arguments, variables, files, time and chance
// (ABI.md §4). Everything is the same in every instance.
var wasiFunctions = map[string]hostFunction{
	"args_get":            {wasm.Sig("ii", "i"), answer(always(errnoSuccess))},
	"args_sizes_get":      {wasm.Sig("ii", "i"), answer(noneOf)},
	"environ_get":         {wasm.Sig("ii", "i"), answer(always(errnoSuccess))},
	"environ_sizes_get":   {wasm.Sig("ii", "i"), answer(noneOf)},
	"clock_time_get":      {wasm.Sig("iIi", "i"), answer(clockTime)},
	"clock_res_get":       {wasm.Sig("ii", "i"), answer(clockResolution)},
	"random_get":          {wasm.Sig("ii", "i"), answer(randomGet)},
	"sched_yield":         {wasm.Sig("", "i"), answer(always(errnoSuccess))},
	"poll_oneoff":         {wasm.Sig("iiii", "i"), answer(pollOneoff)},
	"proc_exit":           {wasm.Sig("i", ""), procExit},
	"fd_write":            {wasm.Sig("iiii", "i"), answer(fdWrite)},
	"fd_read":             {wasm.Sig("iiii", "i"), answer(fdRead)},
	"fd_close":            {wasm.Sig("i", "i"), answer(standard(errnoSuccess))},
	"fd_seek":             {wasm.Sig("iIii", "i"), answer(standard(errnoSpipe))},
	"fd_fdstat_get":       {wasm.Sig("ii", "i"), answer(fdstatGet)},
	"fd_fdstat_set_flags": {wasm.Sig("ii", "i"), answer(standard(errnoSuccess))},
	"fd_prestat_get":      {wasm.Sig("ii", "i"), answer(always(errnoBadf))},
	"fd_prestat_dir_name": {wasm.Sig("iii", "i"), answer(always(errnoBadf))},
}

// answer makes a host function of one that returns an error number.
func answer(f func(in *instance, memory api.Memory, stack []uint64) uint32) func(*instance, api.Memory, []uint64) {
	return func(in *instance, memory api.Memory, stack []uint64) {
		stack[0] = uint64(f(in, memory, stack))
	}
}

// always is errno, whatever is asked for.
func always(errno uint32) func(*instance, api.Memory, []uint64) uint32 {
	return func(*instance, api.Memory, []uint64) uint32 { return errno }
}

// standard is errno for the three standard descriptors, badf for others.
func standard(errno uint32) func(*instance, api.Memory, []uint64) uint32 {
	return func(_ *instance, _ api.Memory, stack []uint64) uint32 {
		if uint32(stack[0]) > 2 {
			return errnoBadf
		}
		return errno
	}
}

// noneOf answers that there are 0 strings in 0 bytes.
func noneOf(_ *instance, memory api.Memory, stack []uint64) uint32 {
	return fault(memory.WriteUint32Le(uint32(stack[0]), 0) && memory.WriteUint32Le(uint32(stack[1]), 0))
}

func fault(ok bool) uint32 {
	if !ok {
		return errnoFault
	}
	return errnoSuccess
}

// The guest's clocks begin at epoch and move by a tick each time one is read.
const (
	clockEpoch = 1767225600_000000000 // 2026-01-01 00:00:00 UTC, in nanoseconds
	clockTick  = 1000
)

func clockTime(in *instance, memory api.Memory, stack []uint64) uint32 {
	in.world.clock += clockTick
	t := in.world.clock
	switch uint32(stack[0]) {
	case 0:
		t += clockEpoch
	case 1:
	default:
		return errnoInval
	}
	return fault(memory.WriteUint64Le(uint32(stack[2]), t))
}

func clockResolution(_ *instance, memory api.Memory, stack []uint64) uint32 {
	if uint32(stack[0]) > 1 {
		return errnoInval
	}
	return fault(memory.WriteUint64Le(uint32(stack[1]), clockTick))
}

func randomGet(in *instance, memory api.Memory, stack []uint64) uint32 {
	b, ok := memory.Read(uint32(stack[0]), uint32(stack[1]))
	for len(b) > 0 {
		n := min(len(b), randomChunk)
		_, _ = in.world.random.Read(b[:n]) // never fails
		b = b[n:]
		in.check()
	}
	return fault(ok)
}

// exit is the guest ending itself.
type exit uint32

func (e exit) Error() string { return fmt.Sprintf("the guest exited with status %d", uint32(e)) }

func procExit(_ *instance, _ api.Memory, stack []uint64) { panic(exit(stack[0])) }

// fdWrite makes log lines of what is written to standard output and error. A
// line is cut at hostabi.MaxLogLine.
func fdWrite(in *instance, memory api.Memory, stack []uint64) uint32 {
	fd, vectors, n := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if fd != 1 && fd != 2 {
		return errnoBadf
	}
	if n > maxVectors {
		return errnoInval
	}
	list, ok := memory.Read(vectors, 8*n)
	if !ok {
		return errnoFault
	}
	level := "info"
	if fd == 2 {
		level = "warn"
	}
	written := uint32(0)
	for ; len(list) > 0; list = list[8:] {
		b, ok := memory.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if !ok {
			return errnoFault
		}
		written += uint32(len(b))
		in.print(level, b)
		in.check() // a vector may be all of memory, and there may be many
	}
	return fault(memory.WriteUint32Le(uint32(stack[3]), written))
}

func (in *instance) print(level string, b []byte) {
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		room := hostabi.MaxLogLine - len(in.world.line)
		in.world.line = append(in.world.line, line[:min(len(line), room)]...)
		if whole {
			in.log(level, in.world.line)
			in.world.line = in.world.line[:0]
			in.check()
		}
		b = rest
	}
}

// fdRead finds standard input at its end.
func fdRead(_ *instance, memory api.Memory, stack []uint64) uint32 {
	if uint32(stack[0]) != 0 {
		return errnoBadf
	}
	return fault(memory.WriteUint32Le(uint32(stack[3]), 0))
}

// fdstatGet describes the standard descriptors as character devices without rights.
func fdstatGet(_ *instance, memory api.Memory, stack []uint64) uint32 {
	if uint32(stack[0]) > 2 {
		return errnoBadf
	}
	stat := [24]byte{0: 2}
	return fault(memory.Write(uint32(stack[1]), stat[:]))
}

// pollOneoff returns at once. Time that a guest wants to wait for has passed:
// the first clock it subscribed to moves to its timeout. A descriptor is an error.
func pollOneoff(in *instance, memory api.Memory, stack []uint64) uint32 {
	n := uint32(stack[2])
	if n == 0 || n > maxSubscriptions {
		return errnoInval
	}
	subs, ok := memory.Read(uint32(stack[0]), 48*n)
	if !ok {
		return errnoFault
	}
	var events []byte
	for ; len(subs) > 0; subs = subs[48:] {
		var event [32]byte
		copy(event[:8], subs[:8]) // the user's data
		event[10] = subs[8]       // clock, read or write
		if subs[8] == 0 {
			until := binary.LittleEndian.Uint64(subs[24:])
			if subs[40]&1 == 0 { // relative
				until += in.world.clock
			} else if binary.LittleEndian.Uint32(subs[16:]) == 0 { // of the wall clock
				until -= min(until, clockEpoch)
			}
			in.world.clock = max(in.world.clock, until)
		} else {
			event[8] = errnoBadf
		}
		events = append(events, event[:]...)
	}
	return fault(memory.Write(uint32(stack[1]), events) && memory.WriteUint32Le(uint32(stack[3]), n))
}
