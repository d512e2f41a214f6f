package rewrite

import "weir/hostabi/wasmhost/wasm"

// Bounds of what the compiler is given (ABI.md §8). It takes more than
// linear time for a function: 4,000 conditions in a row took it 4 s, 400 nested
// loops over 100 variables 30 s, 1 MiB of nothing but loads minutes, and it cannot be
// stopped within one. Functions as people's compilers write them stay far below: the
// largest of a Go guest with fmt and encoding/json has 2,300 blocks, that of one with
// half of Go's library 50 KiB. The interpreter needs no such bounds.
const (
	maxCompiled = 128 << 10 // bytes of one function; of loads and stores they take it 0.7 s
	maxBlocks   = 4096      // basic blocks of one function
	maxAlive    = 1 << 18   // values where the blocks of one function begin: see nesting.alive
	maxLoopVars = 8192      // of one function: see nesting.loopVars
	maxMoves    = 1 << 18   // calls of one function × what may move at one: see moves
	maxAllMoves = 1 << 24   // of all functions; machine code of 10 to 14 bytes for each

	// Blocks × loads and stores of one function: at the end of each block the compiler
	// keeps which addresses are known to be good, 24 bytes for each, and two functions
	// of 120 KB took it 3.5 GB. The most demanding of a Go guest with half of Go's
	// library has 10 million, one with fmt and encoding/json 1 million.
	maxBlockAccesses = 1 << 24

	// Values where blocks begin, of all functions: they take it 2 to 3 s of processor time.
	// A Go guest with half of Go's library has 5 million.
	maxAllAlive = 1 << 25

	// Loops × (variables + parameters of a loop), of all functions: they take it 2 to 5 s of
	// processor time. A Go guest with half of Go's library has 30 thousand.
	maxAllLoopVars = 1 << 18

	// Squares, added up over all functions. A Go guest of 6 MiB has 97 million and 13
	// thousand.
	maxAllBlocks = 1 << 28 // of blocks; of conditions they take it 4 s of processor time
	maxAllSizes  = 1 << 16 // of KiB of code, the rest cut off; of loads they take it 2 s
)

// effort is what it takes to compile the most demanding function of a module, and
// what begins with all the whole.
type effort struct {
	size, blocks, alive, loopVars, blockAccesses, moves  int
	allAlive, allLoopVars, allMoves, allBlocks, allSizes int
}

// Compilable says why the compiler is not given the module; nil if it is. It is
// asked after Write, which looks at the code. The error is an *Error.
func (d *Draft) Compilable() error {
	const (
		interpreted = `run it with engine = "interpreter", or `
		one         = interpreted + "split its largest function"
		all         = interpreted + "split its largest functions"
	)
	e := &d.effort
	for _, b := range []struct {
		n, most      int
		what, remedy string
	}{
		{e.size, maxCompiled, "a function has %d bytes of code", one},
		{e.blocks, maxBlocks, "a function has %d blocks", one},
		{e.alive, maxAlive, "a function has %d values where its blocks begin", one},
		{e.loopVars, maxLoopVars, "a function has %d nested loops × (variables + parameters of a loop)", one},
		{e.blockAccesses, maxBlockAccesses, "a function has %d blocks × loads and stores", one},
		{e.moves, maxMoves, "a function has %d calls × (globals + widest signature)", one},
		{e.allMoves, maxAllMoves, "the functions have %d calls × (globals + widest signature)", interpreted + "use fewer globals and parameters"},
		{e.allAlive, maxAllAlive, "the functions have %d values where their blocks begin", all},
		{e.allLoopVars, maxAllLoopVars, "the functions have %d nested loops × (variables + parameters of a loop)", all},
		{e.allBlocks, maxAllBlocks, "the squares of the functions' blocks add up to %d", all},
		{e.allSizes, maxAllSizes, "the squares of the functions' KiB of code add up to %d", all},
	} {
		if b.n > b.most {
			return refuse(b.remedy, b.what+", the compiler takes at most %d", b.n, b.most)
		}
	}
	return nil
}

// nesting follows the blocks of one function.
type nesting struct {
	open     []opened
	loops    int // of those that are open
	deep     int // most loops at once
	passed   int // parameters of a loop, the most
	blocks   int // basic blocks, about
	calls    int // with those of the checkpoint
	accesses int // loads and stores
	height   int // of the operand stack, exact in valid code wherever control comes
	floor    int // what the innermost block that is open leaves alone of it
	heights  int // where basic blocks begin, added up
	behind   int // bytes of code since the last check, by the longest way here
}

// opened is a block that is open, or the function itself. It is small, since half a
// million may be.
type opened struct {
	op              byte
	params, results uint8  // at most maxSignature
	behind          uint16 // at most stride: of what branches to its end, or around it
	floor           int32  // of the block around it
}

func (n *nesting) reset(t wasm.Signature) {
	*n = nesting{open: n.open[:0]}
	n.push(0, t)
}

func (n *nesting) push(op byte, t wasm.Signature) {
	n.open = append(n.open, opened{op: op, params: uint8(len(t.Params)), results: uint8(len(t.Results)), floor: int32(n.floor)})
}

// split begins a basic block.
func (n *nesting) split() {
	n.blocks++
	n.heights += n.height
}

// shift makes the operand stack higher, or lower.
func (n *nesting) shift(by int) { n.height = max(n.height+by, n.floor) }

// pass counts bytes of code. Above stride it is all the same how many.
func (n *nesting) pass(size int) { n.behind = min(n.behind+size, stride) }

// jump is where control may go to the end of a block, by its label. At the beginning
// of a loop there is a check.
func (n *nesting) jump(label uint32) {
	if label < uint32(len(n.open)) {
		if b := &n.open[len(n.open)-1-int(label)]; b.op != wasm.OpLoop {
			b.behind = max(b.behind, uint16(n.behind))
		}
	}
}

// part is where control does not go on to the next instruction.
func (n *nesting) part() { n.height, n.behind = n.floor, 0 }

func (n *nesting) enter(op byte, t wasm.Signature) {
	n.split()
	n.push(op, t)
	n.floor = max(n.floor, n.height-len(t.Params))
	if op == wasm.OpLoop {
		n.loops++
		n.deep = max(n.deep, n.loops)
		n.passed = max(n.passed, len(t.Params))
	}
	if op == wasm.OpIf {
		n.jump(0)
	}
}

func (n *nesting) otherwise() {
	if last := len(n.open) - 1; last >= 0 {
		n.height = n.floor + int(n.open[last].params)
		around := n.open[last].behind
		n.jump(0)
		n.behind = int(around)
	}
	n.split()
}

func (n *nesting) leave() {
	if last := len(n.open) - 1; last >= 0 {
		b := n.open[last]
		if b.op == wasm.OpLoop {
			n.loops--
		}
		n.open = n.open[:last]
		n.behind = max(n.behind, int(b.behind))
		n.height, n.floor = n.floor+int(b.results), int(b.floor)
		n.heights += n.height // no block more: entering it counted
	}
}

// alive is what the compiler keeps for each block of the variables and of the operands on
// the stack there: 18,000 operands over 3,600 blocks, 85 KB, took it 0.6 GB, and 900
// functions with 500 over 500 12 s.
func (n *nesting) alive(variables int) int { return n.blocks*variables + n.heights }

// loopVars is what may change in a loop for each of the loops within each other.
func (n *nesting) loopVars(variables int) int { return n.deep * (variables + n.passed) }

// moves is what the compiler moves at each call, at most: it passes parameters and
// results, and reads all globals that may change, with the countdown, anew. A module
// of 320 KB with 1,000 calls and 65,000 globals took it more than 8 GB.
func (d *Draft) moves() int { return d.widest + len(d.mutable) + 1 }

// add counts a function of so many bytes and variables, and moves at each call.
func (e *effort) add(n *nesting, size, variables, moves int) {
	e.size = max(e.size, size)
	e.blocks = max(e.blocks, n.blocks)
	e.alive = max(e.alive, n.alive(variables))
	e.loopVars = max(e.loopVars, n.loopVars(variables))
	e.blockAccesses = max(e.blockAccesses, n.blocks*n.accesses)
	e.moves = max(e.moves, n.calls*moves)
	e.allAlive += n.alive(variables)
	e.allLoopVars += n.loopVars(variables)
	e.allMoves += n.calls * moves
	e.allBlocks += n.blocks * n.blocks
	e.allSizes += (size >> 10) * (size >> 10)
}
