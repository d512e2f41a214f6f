package rewrite

import (
	"slices"
	"testing"

	. "weir/hostabi/wasmhost/wasmtest"
)

func TestStaticBoundsOfABIEqualTheCode(t *testing.T) {
	rows := slices.DeleteFunc(ABITable(t, "../../ABI.md", "static bound"), func(row []string) bool {
		return row[0] == "compiling the module" // bounded by who runs the compiler
	})
	HoldNumbers(t, rows, 0, 1, map[string]int{
		"tables": maxTables,
		"locals of a function, beside its parameters":               maxLocals,
		"locals of all functions":                                   maxAllLocals,
		"entries of a section, such as functions, types or globals": maxEntries,
		"data segments":                                                      maxData,
		"entries of all element segments":                                    maxElements,
		"parameters and results of a function":                               maxSignature,
		"name of an import or export":                                        maxName,
		"code of a function":                                                 maxBody,
		"code with the checks that are added":                                maxCode,
		"code of a function, compiled":                                       maxCompiled,
		"blocks of a function":                                               maxBlocks,
		"values where the blocks of a function begin":                        maxAlive,
		"values where the blocks of all functions begin":                     maxAllAlive,
		"blocks × loads and stores of a function":                            maxBlockAccesses,
		"nested loops of all functions × (variables + parameters of a loop)": maxAllLoopVars,
		"nested loops of a function × (variables + parameters of a loop)":    maxLoopVars,
		"calls of a function × (globals + widest signature)":                 maxMoves,
		"calls of all functions × (globals + widest signature)":              maxAllMoves,
		"squares of the functions' blocks, added up":                         maxAllBlocks,
		"squares of the functions' KiB of code, added up":                    maxAllSizes,
	})
}
