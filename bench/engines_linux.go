package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
)

// engineFigures are what one engine costs with the standard policy, each a
// value per round.
type engineFigures struct {
	load  []float64 // ms of wasmhost.Load, nothing cached
	call  []float64 // µs of one call of weir_classify
	ready []float64 // ms from the start of weir run to its first answer
	cpu   []float64 // ms of processor time until then
	rest  []float64 // MB resident then
	guest []float64 // MB of linear memory of all instances, which is part of it
}

const noPolicy = "no policy"

// engines measures both engines and, beside them, Weir without a policy.
func engines(ctx context.Context, weir *peer, rounds int) (string, error) {
	names := []string{noPolicy, wasmhost.Interpreter, wasmhost.Compiler}
	figures := map[string]*engineFigures{}
	for _, n := range names {
		figures[n] = &engineFigures{}
	}
	wasm, err := os.ReadFile(weir.weir.module)
	if err != nil {
		return "", err
	}
	for range rounds {
		for _, n := range names {
			if err := figures[n].process(ctx, *weir, n); err != nil {
				return "", fmt.Errorf("engine %s: %w", n, err)
			}
			if n == noPolicy {
				continue
			}
			if err := figures[n].module(ctx, n, wasm); err != nil {
				return "", fmt.Errorf("engine %s: %w", n, err)
			}
		}
	}
	return engineTable(names, figures), nil
}

func engineTable(names []string, figures map[string]*engineFigures) string {
	var t table
	t.add("engine", "load, ms", "call, µs", "ready after, ms", "CPU until ready, ms", "memory at rest, MB", "of it the guest's, MB")
	for _, n := range names {
		f, row := figures[n], []string{n}
		for _, v := range [][]float64{f.load, f.call, f.ready, f.cpu, f.rest, f.guest} {
			row = append(row, shown(three, v))
		}
		t.add(row...)
	}
	return t.String()
}

// process measures Weir's process as it starts.
func (f *engineFigures) process(ctx context.Context, weir peer, engine string) error {
	weir.weir.engine, weir.weir.profiles = engine, ""
	if engine == noPolicy {
		weir.weir.module = ""
	}
	r, err := startUpstream(cell{kind: get, size: 128, tunnels: 1})
	if err != nil {
		return err
	}
	defer r.close()
	x, err := weir.start(ctx, r.cell, r.server.port)
	if err != nil {
		return err
	}
	defer x.stop()
	cpu, err := cpuTime(x.pids)
	if err != nil {
		return err
	}
	rest, err := resident(x.pids)
	f.ready = append(f.ready, milli(x.ready))
	f.cpu = append(f.cpu, milli(cpu))
	f.rest = append(f.rest, float64(rest)/1e6)
	return err
}

func milli(d time.Duration) float64 { return float64(d) / 1e6 }

const engineCalls = 2000 // of which the time is taken together

// module loads the policy in this process and calls it with new event keys.
func (f *engineFigures) module(ctx context.Context, engine string, wasm []byte) error {
	configure := hostabi.ConfigureInput{Policy: "standard", Config: []byte(`{"event_key":"/type","droppable":["presence"]}`), HostMinor: hostabi.Minor}
	began := time.Now()
	m, err := wasmhost.Load(ctx, wasmhost.Options{
		Name: "standard", Wasm: slices.Clone(wasm), Engine: engine, Configure: configure.AppendTo(nil), Instances: 2,
		CallTimeout: time.Second, InitTimeout: time.Minute, // others may use the machine
		Rehearse: func(r *wasmhost.Rehearsal) {
			in := hostabi.ClassifyInput{Route: "bench", Key: []byte("key-000000")}
			_, _, _ = r.Call(hostabi.Classify, in.AppendTo(nil), nil)
		},
	})
	if err != nil {
		return err
	}
	defer m.Close()
	f.load = append(f.load, milli(time.Since(began)))
	f.guest = append(f.guest, float64(m.Info().MemoryBytes)/1e6)
	in, out := hostabi.ClassifyInput{Route: "bench", Key: []byte("key-000000")}, make([]byte, 0, hostabi.MaxOutput)
	var message []byte
	began = time.Now()
	for i := range engineCalls {
		in.Key = fmt.Appendf(in.Key[:0], "key-%d", i)
		message = in.AppendTo(message[:0])
		if _, _, err := m.Call(hostabi.Classify, message, out); err != nil {
			return err
		}
	}
	f.call = append(f.call, micro(time.Since(began))/engineCalls)
	return nil
}

// binary is the size of a peer's program.
func (p *peer) binary() string {
	info, err := os.Stat(p.bin)
	if err != nil {
		return "–"
	}
	return three(float64(info.Size()) / 1e6)
}
