package wasmhost

import (
	"slices"
	"strconv"

	"github.com/tetratelabs/wazero/api"

	"weir/hostabi/wasmhost/rewrite"
)

// image is an instance as it was after weir_buffer: its whole state, since the
// modules that are run lean have none but memory and numbers. Instances that
// begin as one share the pages of memory that they do not change.
type image struct {
	memory  snapshot
	size    int // bytes of memory
	globals []uint64
	region  uint32
	world   world
}

func (w world) clone() world {
	random := *w.random
	return world{clock: w.clock, random: &random, line: slices.Clone(w.line)}
}

// picture takes the image of an instance.
func (in *instance) picture() *image {
	size := in.memory.Size()
	b, _ := in.memory.Read(0, size)
	i := &image{memory: takeSnapshot(b), size: int(size), region: in.region, world: in.world.clone()}
	for n := range in.core.code.draft.States() {
		i.globals = append(i.globals, in.global(rewrite.StateName, n).Get())
	}
	return i
}

// become makes a new instance of the image's size what the image is.
func (in *instance) become(i *image) {
	in.region, in.world = i.region, i.world.clone()
	for n, v := range i.globals {
		in.global(rewrite.StateName, n).Set(v)
	}
}

func (in *instance) global(name string, n int) api.MutableGlobal {
	return in.module.ExportedGlobal(name + strconv.Itoa(n)).(api.MutableGlobal)
}

func (i *image) free() {
	if i != nil {
		i.memory.free()
	}
}
