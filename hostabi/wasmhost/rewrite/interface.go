package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
)

// Imports tells the signature of a function that modules may import (ABI.md §4);
// false if they may not.
type Imports func(module, name string) (wasm.Signature, bool)

type export struct {
	kind  byte // 0 function, 1 table, 2 memory, 3 global
	index uint32
}

func (d *Draft) readImports(allowed Imports) error {
	return d.each(wasm.SecImport, func(_ uint32, r *reader) error {
		module, name, kind := r.name(), r.name(), r.byte()
		if r.err != nil {
			return nil
		}
		if kind != 0 {
			return refuse("define it in the module and export it", "import %s.%s is a %s; only functions may be imported", module, name, kindName(kind))
		}
		t := r.u32()
		if r.err != nil {
			return nil
		}
		d.imports = append(d.imports, t)
		want, ok := allowed(module, name)
		if !ok {
			return refuse(importRemedy(module, name), "import %s.%s is not allowed", module, name)
		}
		if got := d.typeAt(t); got != want {
			return refuse("declare it as the SDK does", "import %s.%s has signature %v, it should be %v", module, name, got, want)
		}
		return nil
	})
}

// importRemedy says how an import that is not allowed is got rid of.
func importRemedy(module, name string) string {
	switch {
	case module == "env" && name == "abort":
		return "compile AssemblyScript with --use abort= and --runtime incremental"
	case module == wasm.WASI:
		return "policies have no file system, network, environment or clock: leave out the code that needs it"
	case module == "gojs" || module == "go":
		return "build with GOOS=wasip1 -buildmode=c-shared, not GOOS=js"
	case module == "env":
		return "define the function in the module: an undefined symbol became an import"
	}
	return fmt.Sprintf("a policy may import %s.%s and some of %s only", hostabi.ImportModule, hostabi.ImportLog, wasm.WASI)
}

func (d *Draft) readExports() error {
	return d.each(wasm.SecExport, func(_ uint32, r *reader) error {
		name := r.name()
		d.exports[name] = export{r.byte(), r.u32()}
		return nil
	})
}

// checkExports holds the exports to ABI.md §3.
func (d *Draft) checkExports() error {
	if e, ok := d.exports["_start"]; ok && e.kind == 0 {
		return refuse("build a reactor: -buildmode=c-shared (Go), crate-type cdylib (Rust), -mexec-model=reactor (C)", "the module is a command: it exports _start")
	}
	if e, ok := d.exports[hostabi.ExportMemory]; !ok || e.kind != 2 || !d.memory {
		return refuse("export the linear memory under this name", "the export %q is missing", hostabi.ExportMemory)
	}
	if err := d.checkExport(hostabi.ExportInitialize, wasm.Signature{}, false); err != nil {
		return err
	}
	if err := d.checkExport(hostabi.ExportABI, wasm.Sig("", "i"), true); err != nil {
		return err
	}
	if err := d.checkExport(hostabi.ExportBuffer, wasm.Sig("ii", "i"), true); err != nil {
		return err
	}
	known := []string{hostabi.ExportABI, hostabi.ExportBuffer}
	for h := range hostabi.Hook(hostabi.NumHooks) {
		if err := d.checkExport(h.Export(), wasm.Sig("i", "I"), false); err != nil {
			return err
		}
		_, d.Has[h] = d.exports[h.Export()]
		known = append(known, h.Export())
	}
	for name, e := range d.exports {
		d.wild = d.wild || strings.HasPrefix(name, ownPrefix)
		if e.kind == 0 && strings.HasPrefix(name, "weir_") && !slices.Contains(known, name) {
			d.Unknown = append(d.Unknown, name)
		}
	}
	slices.Sort(d.Unknown)
	return nil
}

func (d *Draft) checkExport(name string, want wasm.Signature, required bool) error {
	e, ok := d.exports[name]
	switch {
	case !ok && required:
		return refuse("link the SDK, or export it with this signature", "the export %s %v is missing", name, want)
	case !ok:
		return nil
	case e.kind != 0:
		return refuse("export it as a function", "the export %s is a %s, it should be a function %v", name, kindName(e.kind), want)
	}
	if e.index < uint32(len(d.imports)) { // which has no memory where no guest calls it
		return refuse("define it in the module", "the export %s is an imported function", name)
	}
	if got := d.typeOf(e.index); got != want {
		return refuse("correct its parameters and result", "the export %s has signature %v, it should be %v", name, got, want)
	}
	return nil
}

// noSignature is that of what does not exist. None that is asked for equals it.
var noSignature = wasm.Signature{Params: "?", Results: "?"}

// typeOf is the signature of a function by its index, or noSignature.
func (d *Draft) typeOf(fn uint32) wasm.Signature {
	if n := uint32(len(d.imports)); fn < n {
		return d.typeAt(d.imports[fn])
	} else if fn-n < uint32(len(d.funcs)) {
		return d.typeAt(d.funcs[fn-n])
	}
	return noSignature
}

// typeAt is a signature by its index, or noSignature.
func (d *Draft) typeAt(i uint32) wasm.Signature {
	if i < uint32(len(d.types)) {
		return d.types[i]
	}
	return noSignature
}

func kindName(kind byte) string {
	switch kind {
	case 0:
		return "function"
	case 1:
		return "table"
	case 2:
		return "memory"
	case 3:
		return "global"
	}
	return "thing of unknown kind"
}
