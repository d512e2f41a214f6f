package rewrite

import (
	"bytes"
	"strings"

	"weir/hostabi/wasmhost/wasm"
)

// A rewritten module counts down a global of its own as it runs, at the entry
// of every function, at every turn of a loop, and at least every stride bytes
// of code, whichever way control takes; bulk instructions pay for the bytes they move. At zero it
// calls the host's checkpoint, which ends it when its time is up and
// otherwise gives it the next ticks. So a guest is never more than ticks × stride
// bytes of code, well under a millisecond, past its time, returns to Go often
// enough for the collector and the scheduler, and needs no goroutine beside it.
//
// wazero's own checks (WithCloseOnContextDone) stand at loops only, so functions
// that call each other twice run for years past them, and cost a goroutine per
// call; compiled, they leave to Go at every turn of every loop. A Go guest that
// decodes JSON takes 7 µs compiled without any checks, 7 µs with these and 29 µs
// with wazero's; interpreted 210, 205 and 240 µs.
const (
	ticks      = 256
	stride     = 512
	bulkShift  = 12 // a tick per 4 KiB, or 4,096 table entries, moved
	localShift = 6  // a tick per 64 locals zeroed
	maxBody    = 1 << 20
	maxCode    = 12 << 20 // all code with the checks; a loop has 3 bytes without, and 22 with them
)

// meter is what the inserted code refers to.
type meter struct {
	fn     uint32 // index of the imported checkpoint; own functions move up
	added  uint32 // by the imports that are added
	global uint32 // index of the countdown; what follows are marks (form.go)
}

// instrument rewrites the sections. The new imports come after the module's
// own, so that every function index at or above them moves and none can name
// them; the new globals come last and code that names them is refused.
func (d *Draft) instrument(f Form) error {
	m := meter{fn: uint32(len(d.imports)), added: 1}
	if f.lean() {
		m.added = 2
	}
	countdown := wasm.AppendS32([]byte{0x7F, 1, 0x41}, ticks)
	globals, err := d.rewriteGlobals(m)
	if err != nil {
		return err
	}
	m.global = d.globals
	for _, e := range d.exports {
		if e.kind == 3 && e.index >= d.globals {
			return refuse("build it again", "an export names global %d of %d", e.index, d.globals)
		}
	}
	if err := d.rewriteExports(m); err != nil {
		return err
	}
	if f.Pages > 0 { // it begins in the middle of its life
		d.sections[wasm.SecStart], d.sections[wasm.SecData], d.sections[wasm.SecDataCount] = nil, nil, nil
		d.sections[wasm.SecMemory] = wasm.AppendU32(wasm.AppendU32([]byte{1, 1}, f.Pages), d.maxPages)
	}
	if d.sections[wasm.SecStart] != nil {
		r := &reader{b: d.sections[wasm.SecStart]}
		d.sections[wasm.SecStart] = wasm.AppendU32(nil, m.moved(r.u32()))
		if r.err != nil || r.more() {
			return malformed(wasm.SecStart, errShort)
		}
	}
	if err := d.rewriteElements(m); err != nil {
		return err
	}
	if err := d.rewriteCode(m, f); err != nil {
		return err
	}
	d.names = m.rewriteNames(d.names)

	t := uint32(len(d.types))
	d.sections[wasm.SecType] = vector(d.sections[wasm.SecType], t, []byte{0x60, 0, 0}, []byte{0x60, 1, 0x7F, 0})
	imported := [][]byte{imported(Checkpoint, t), imported(Missing, t+1)}
	d.sections[wasm.SecImport] = vector(d.sections[wasm.SecImport], m.fn, imported[:m.added]...)
	all := append(globals, append(countdown, wasm.OpEnd)...)
	n, exports := d.globals+1, [][]byte(nil)
	if f.Marks {
		for i := range d.Marks() {
			all = append(all, 0x7E, 1, wasm.OpI64Const, 0, wasm.OpEnd)
			exports = append(exports, exportedGlobal(MarkName, i, n))
			n++
		}
	}
	if f.Marks || f.Pages > 0 {
		for i, g := range d.mutable {
			exports = append(exports, exportedGlobal(StateName, i, g))
		}
	}
	d.sections[wasm.SecGlobal] = append(wasm.AppendU32(nil, n), all...)
	d.sections[wasm.SecExport] = vector(d.sections[wasm.SecExport], uint32(len(d.exports)), exports...)
	return nil
}

func imported(name string, t uint32) []byte {
	return wasm.AppendU32(append(wasm.AppendName(wasm.AppendName(nil, HostModule), name), 0), t)
}

// vector is a section of n elements with more behind them.
func vector(section []byte, n uint32, more ...[]byte) []byte {
	r := &reader{b: section}
	if section != nil {
		r.u32()
	}
	return append(append(wasm.AppendU32(nil, n+uint32(len(more))), section[r.off:]...), bytes.Join(more, nil)...)
}

func (m meter) moved(fn uint32) uint32 {
	if fn >= m.fn && fn < -m.added {
		return fn + m.added
	}
	return fn
}

// rewriteGlobals counts the globals and returns them rewritten, without their
// number.
func (d *Draft) rewriteGlobals(m meter) (out []byte, err error) {
	c := &copier{meter: m, draft: d}
	c.limit = 1<<32 - 1 // the engine checks which globals an initial value may read
	err = d.each(wasm.SecGlobal, func(_ uint32, r *reader) error {
		kind := r.take(2)
		if r.err == nil && !wasm.IsValueType(kind[0]) {
			return refuse(remedyWasm2, "global %d is of an unknown type", d.globals)
		}
		if r.err == nil && kind[1] == 1 {
			if kind[0] < 0x7C { // a reference or a vector
				d.wild = true
			}
			d.mutable = append(d.mutable, d.globals)
		}
		c.out = append(c.out, kind...)
		c.expression(r)
		d.globals++
		return c.refused
	})
	return c.out, err
}

func (d *Draft) rewriteExports(m meter) error {
	var out []byte
	err := d.each(wasm.SecExport, func(_ uint32, r *reader) error {
		out = wasm.AppendName(out, r.name())
		kind, index := r.byte(), r.u32()
		if kind == 0 {
			index = m.moved(index)
		}
		out = wasm.AppendU32(append(out, kind), index)
		return nil
	})
	d.replace(wasm.SecExport, out)
	return err
}

// replace puts a rewritten vector in a section's place, with its old length.
func (d *Draft) replace(section int, elements []byte) {
	if d.sections[section] == nil {
		return
	}
	r := &reader{b: d.sections[section]}
	d.sections[section] = append(wasm.AppendU32(nil, r.u32()), elements...)
}

// rewriteElements moves the functions named by element segments, in all eight
// of their forms.
func (d *Draft) rewriteElements(m meter) error {
	c := &copier{meter: m, draft: d, limit: 1<<32 - 1}
	all := uint64(0)
	err := d.each(wasm.SecElement, func(_ uint32, r *reader) error {
		form := r.u32()
		if form > 7 {
			return refuse(remedyWasm2, "element segment of form %d is unknown", form)
		}
		c.out = wasm.AppendU32(c.out, form)
		if form&1 == 0 { // active
			if form&2 != 0 {
				c.out = wasm.AppendU32(c.out, r.u32())
			}
			c.expression(r)
		}
		if form&3 != 0 {
			kind := r.byte() // of elements, or reference type
			if kind != 0 && kind != 0x70 && kind != 0x6F {
				return refuse(remedyWasm2, "element segment of kind %#x is unknown", kind)
			}
			c.out = append(c.out, kind)
		}
		n := r.count()
		if all += uint64(n); all > maxElements {
			return refuse("use fewer indirect functions", "element segments have more than %d entries", maxElements)
		}
		c.out = wasm.AppendU32(c.out, n)
		for range n {
			if form&4 == 0 {
				c.out = wasm.AppendU32(c.out, m.moved(r.u32()))
			} else {
				c.expression(r)
			}
			if r.err != nil || c.refused != nil {
				break
			}
		}
		return c.refused
	})
	d.replace(wasm.SecElement, c.out)
	return err
}

func (d *Draft) rewriteCode(m meter, f Form) error {
	out := make([]byte, 0, len(d.sections[wasm.SecCode])*5/4)
	c := &copier{meter: m, draft: d, limit: d.globals}
	whole := 0 // bytes of the functions that were looked at
	err := d.each(wasm.SecCode, func(i uint32, r *reader) error {
		size := r.u32()
		if size > maxBody {
			return refuse("split it", "function %d has %d bytes of code, more than %d", m.fn+i, size, maxBody)
		}
		body := &reader{b: r.take(size)}
		if r.err != nil {
			return nil
		}
		if i >= uint32(len(d.funcs)) {
			return malformed(wasm.SecCode, errCount)
		}
		c.out = c.out[:0]
		if f.Familiar == nil && !f.holds(i, size) { // it was looked at before
			c.stub(i)
			out = append(wasm.AppendU32(out, uint32(len(c.out))), c.out...)
			return nil
		}
		c.marked, c.own, c.calls = f.Marks, i, c.calls[:0]
		if err := c.function(body, d.typeAt(d.funcs[i])); err != nil {
			return err
		}
		if body.err != nil {
			return malformed(wasm.SecCode, body.err)
		}
		if whole += len(c.out); whole > maxCode {
			return refuse("build it smaller", "the code has more than %d bytes with the checks that are added", maxCode)
		}
		d.effort.add(&c.nesting, int(size), int(c.scratch), d.moves())
		if f.Marks {
			d.prints = append(d.prints, c.print)
		}
		if _, ok := f.Familiar[c.print]; f.Familiar != nil && !ok && size > stubSize {
			c.stub(i)
		}
		out = append(wasm.AppendU32(out, uint32(len(c.out))), c.out...)
		return nil
	})
	d.wild = d.wild || c.wild
	d.replace(wasm.SecCode, out)
	return err
}

// rewriteNames moves the function names, which appear in the guest's stack
// traces, up to 30 for each trap, cut to maxName; it drops the others. Names that
// make no sense are dropped too.
func (m meter) rewriteNames(section []byte) []byte {
	r := &reader{b: section}
	for r.more() {
		id, part := r.byte(), &reader{b: r.take(r.u32())}
		if id != 1 || r.err != nil {
			continue
		}
		n := part.count()
		out := wasm.AppendU32(nil, n)
		for range n {
			out = wasm.AppendU32(out, m.moved(part.u32()))
			name := part.take(part.u32())
			out = wasm.AppendName(out, strings.ToValidUTF8(string(name[:min(len(name), maxName)]), "?"))
		}
		if part.err != nil || part.more() {
			return nil
		}
		return bytes.Join([][]byte{{1}, wasm.AppendU32(nil, uint32(len(out))), out}, nil)
	}
	return nil
}

// function copies one body, with its locals, and inserts the checks.
func (c *copier) function(r *reader, t wasm.Signature) error {
	groups := r.count()
	start := r.off
	locals := uint64(0)
	for range groups {
		locals += uint64(r.u32())
		if t := r.byte(); !wasm.IsValueType(t) && r.err == nil {
			return refuse(remedyWasm2, "a local is of unknown type %#x", t)
		}
		if locals > maxLocals {
			return refuse("use fewer variables in one function", "a function has more than %d locals", maxLocals)
		}
	}
	if c.locals += locals; c.locals > maxAllLocals {
		return refuse("use fewer variables", "functions have more than %d locals together", maxAllLocals)
	}
	// One more local, to hold the length of a bulk instruction.
	c.scratch = uint32(len(t.Params)) + uint32(locals)
	c.print = uint64(c.scratch)
	c.nesting.reset(t)
	c.out = wasm.AppendU32(c.out, groups+1)
	c.out = append(c.out, r.b[start:r.off]...)
	c.out = append(c.out, 1, 0x7F)
	if c.marked {
		c.mark()
	}

	// The check at the entry may wait until control can leave the straight line;
	// code of a Go guest comes to a loop before that, whose check serves for both.
	due := 1 + int32(locals>>localShift)
	for r.more() {
		if c.nesting.behind >= stride || due > 0 && leaves(r.b[r.off]) {
			c.tick(max(due, 1))
			due = 0
		}
		at := r.off
		op := c.instruction(r)
		c.nesting.pass(r.off - at)
		if op == wasm.OpLoop {
			c.tick(max(due, 1))
			due = 0
		}
		if c.refused != nil {
			return c.refused
		}
	}
	return nil
}

// tick inserts: countdown -= n; if countdown < 1 { checkpoint(); countdown = ticks }.
// It is at least 1 before, so that the check is for zero when n is 1, which
// saves the interpreter a quarter of it.
func (c *copier) tick(n int32) {
	c.nesting.behind = 0
	c.out = wasm.AppendU32(append(c.out, wasm.OpGlobalGet), c.global)
	c.out = wasm.AppendS32(append(c.out, wasm.OpI32Const), n)
	c.out = append(c.out, wasm.OpI32Sub)
	c.store(n == 1)
}

// payBulk inserts, before an instruction with a length on top of the stack:
// countdown -= length>>bulkShift + 1, and the check.
func (c *copier) payBulk() {
	c.out = wasm.AppendU32(append(c.out, wasm.OpLocalTee), c.scratch)
	c.out = wasm.AppendU32(append(c.out, wasm.OpGlobalGet), c.global)
	c.out = wasm.AppendU32(append(c.out, wasm.OpLocalGet), c.scratch)
	c.out = append(c.out, wasm.OpI32Const, bulkShift, wasm.OpI32ShrU, wasm.OpI32Sub)
	c.out = append(c.out, wasm.OpI32Const, 1, wasm.OpI32Sub)
	c.store(false)
}

// store inserts the end of a check: the new countdown is on the stack.
func (c *copier) store(byOne bool) {
	c.out = wasm.AppendU32(append(c.out, wasm.OpGlobalSet), c.global)
	c.out = append(c.out, wasm.OpBlock, wasm.BlockEmpty)
	c.out = wasm.AppendU32(append(c.out, wasm.OpGlobalGet), c.global)
	if !byOne {
		c.out = append(c.out, wasm.OpI32Const, 0, wasm.OpI32GtS)
	}
	c.out = append(c.out, wasm.OpBrIf, 0)
	c.checkNow()
	c.out = wasm.AppendS32(append(c.out, wasm.OpI32Const), ticks)
	c.out = wasm.AppendU32(append(c.out, wasm.OpGlobalSet), c.global)
	c.out = append(c.out, wasm.OpEnd)
}

// checkNow inserts a call of the host's checkpoint.
func (c *copier) checkNow() {
	c.nesting.split()
	c.nesting.calls++
	c.out = wasm.AppendU32(append(c.out, wasm.OpCall), c.fn)
}
