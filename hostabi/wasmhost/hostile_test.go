package wasmhost

import (
	"bytes"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// What the tests of a whole gateway (gateway_test.go) use of those of modules.

// Hostile is a module that loads and is a policy, until one of its hooks is
// asked about what has its trigger in it.
type Hostile struct {
	Wasm []byte
	Kind Kind // of the fault; "": one or the other
	// Answers says that it does not fail at all, only grow or change its mind.
	Answers bool
}

// Triggers of the hooks: bytes in what they are asked.
const (
	AdmitTrigger, ClassifyTrigger = '!', '!'
	FramingTrigger                = '~'
	FaultTrigger                  = 418 & 0xFF // the low byte of the status
)

// GoodModule is a policy without an opinion but that all are admitted.
func GoodModule() []byte { return policyGuest(func(*Guest) []byte { return nil }).Build() }

// HostileModules are those that are contained when they are asked.
func HostileModules() map[string]Hostile {
	all := map[string]Hostile{}
	for name, m := range misbehaviours() {
		all[name] = Hostile{Wasm: policyGuest(m.bad).Build(), Kind: m.want}
	}
	grow := func(more []byte) []byte {
		return Join([]byte{OpLoop, BlockEmpty}, more, I32(-1), []byte{0x47, OpBrIf, 0, OpEnd})
	}
	tabled := policyGuest(func(*Guest) []byte { return grow(Join([]byte{OpRefNull, 0x70}, I32(1), []byte{OpMisc, 15, 0})) })
	tabled.Tables = [][]byte{{0x70, 0, 1}}
	all["grows its table"] = Hostile{Wasm: tabled.Build(), Answers: true}
	all["grows its memory"] = Hostile{Wasm: policyGuest(func(*Guest) []byte { return grow(Join(I32(1), []byte{OpMemoryGrow, 0})) }).Build(), Answers: true}
	fickle := policyGuest(func(*Guest) []byte { // no opinion every other time
		return Join([]byte{OpGlobalGet, 0}, I32(1), []byte{0x73, OpGlobalSet, 0, OpGlobalGet, 0, OpIf, BlockEmpty}, noOpinion, []byte{0x0F, OpEnd})
	})
	fickle.Globals = [][]byte{Join([]byte{0x7F, 1}, I32(0), []byte{OpEnd})}
	all["changes its mind"] = Hostile{Wasm: fickle.Build(), Answers: true}
	return all
}

// RefusedModules are those that do not load, with words of the reason. They are
// configured with "{}".
func RefusedModules() map[string][]string {
	all := map[string][]string{}
	for name, m := range refusedModules() {
		if len(m.wasm) > 0 && len(m.wasm) <= hostabi.MaxModuleBytes && name != "refused with a word" { // config refuses the others
			all[string(m.wasm)] = append([]string{name}, m.names...)
		}
	}
	answering := func(h hostabi.Hook, m interface{ AppendTo([]byte) []byte }) string {
		return string(policyGuest(func(*Guest) []byte { return nil }).Hook(h, output(m.AppendTo(nil))).Build())
	}
	all[answering(hostabi.ErrorHook, &hostabi.ErrorOutput{Template: "{{nonsense}}"})] = []string{"an unknown slot", "nonsense"}
	all[answering(hostabi.ErrorHook, &hostabi.ErrorOutput{Template: "{{code"})] = []string{"an open slot", "envelope"}
	all[answering(hostabi.ErrorHook, &hostabi.ErrorOutput{Template: "{}", Status: 99})] = []string{"an impossible status", "99"}
	all[answering(hostabi.Configure, &hostabi.Shape{EventKey: []string{"type"}})] = []string{"a pointer that is none", "event key"}
	all[answering(hostabi.Configure, &hostabi.Shape{Constant: []hostabi.Hook{hostabi.Configure}})] = []string{"a constant configure", "constant"}
	garbage := policyGuest(func(*Guest) []byte { return nil }).Hook(hostabi.Classify, output([]byte{1, 0, 9}))
	all[string(garbage.Build())] = []string{"half a message", "classify"}
	return all
}

// CompiledModules is how many are held.
func CompiledModules() int {
	codes.Lock()
	defer codes.Unlock()
	return len(codes.m)
}

var noOpinion = I64(int64(hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration)))

// policyGuest is a policy whose event key is /type and which does bad when a
// hook is asked about its trigger.
func policyGuest(bad func(*Guest) []byte) *Guest {
	g := NewGuest()
	do := bad(g)
	answers := map[hostabi.Hook][]byte{hostabi.Admit: I64(0)}
	for h, trigger := range map[hostabi.Hook]int32{
		hostabi.Classify: ClassifyTrigger, hostabi.Admit: AdmitTrigger, hostabi.FramingHook: FramingTrigger, hostabi.FaultHook: FaultTrigger,
	} {
		answer := answers[h]
		if answer == nil {
			answer = noOpinion
		}
		g.Hook(h, Join(containing(trigger, do), answer))
		g.Exports[h.Export()].Locals = []byte{1, 1, 0x7F}
	}
	g.Hook(hostabi.ErrorHook, noOpinion)
	shape := hostabi.Shape{EventKey: []string{"/type"}}
	return g.Hook(hostabi.Configure, output(shape.AppendTo(nil)))
}

// containing does then once for each byte of the input that is b.
func containing(b int32, then []byte) []byte {
	at := []byte{OpLocalGet, 1}
	return Join([]byte{OpLoop, BlockEmpty}, at, []byte{OpLocalGet, 0, 0x49, OpIf, BlockEmpty},
		at, []byte{0x2D, 0}, AppendU32(nil, Region), I32(b), []byte{0x46, OpIf, BlockEmpty}, then, []byte{OpEnd},
		at, I32(1), []byte{0x6A, 0x21, 1, OpBr, 1, OpEnd, OpEnd})
}

// output is the body of a hook that answers b.
func output(b []byte) []byte {
	var body bytes.Buffer
	for i, c := range b {
		body.Write(Join(I32(Region+int32(i)), I32(int32(c)), []byte{0x3A, 0, 0}))
	}
	body.Write(I64(int64(hostabi.MakeResult(uint32(len(b)), hostabi.StatusOK, hostabi.CacheGeneration))))
	return body.Bytes()
}
