package rewrite

import "weir/hostabi/wasmhost/wasm"

// Reach returns s with fn and every function that it calls by name, directly or
// through others. The module is one that the engine takes.
func (d *Draft) Reach(s Set, fn uint32) Set {
	grown := append(Set(nil), s...)
	bodies := d.bodies()
	todo := []uint32{fn}
	grown.Add(fn)
	c := &copier{draft: d, meter: meter{fn: uint32(len(d.imports)), added: 1}, limit: 1<<32 - 1}
	for len(todo) > 0 {
		fn, todo = todo[len(todo)-1], todo[:len(todo)-1]
		c.out, c.calls = c.out[:0], c.calls[:0]
		_ = c.function(&reader{b: bodies[fn]}, d.typeAt(d.funcs[fn])) // was copied before
		for _, callee := range c.calls {
			if own := callee - uint32(len(d.imports)); callee >= uint32(len(d.imports)) && own < uint32(len(bodies)) && !grown.Has(own) {
				grown.Add(own)
				todo = append(todo, own)
			}
		}
	}
	return grown
}

// bodies are those of the module's functions.
func (d *Draft) bodies() (all [][]byte) {
	_ = d.each(wasm.SecCode, func(_ uint32, r *reader) error { // was read before
		all = append(all, r.take(r.u32()))
		return nil
	})
	return all
}
