package wasmhost

import (
	"bytes"

	"weir/hostabi"
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
func GoodModule() []byte { return policyGuest(func(*guest) []byte { return nil }).build() }

// HostileModules are those that are contained when they are asked.
func HostileModules() map[string]Hostile {
	all := map[string]Hostile{}
	for name, m := range misbehaviours() {
		all[name] = Hostile{Wasm: policyGuest(m.bad).build(), Kind: m.want}
	}
	grow := func(more []byte) []byte {
		return join([]byte{opLoop, blockEmpty}, more, i32(-1), []byte{0x47, opBrIf, 0, opEnd})
	}
	tabled := policyGuest(func(*guest) []byte { return grow(join([]byte{opRefNull, 0x70}, i32(1), []byte{opMisc, 15, 0})) })
	tabled.tables = [][]byte{{0x70, 0, 1}}
	all["grows its table"] = Hostile{Wasm: tabled.build(), Answers: true}
	all["grows its memory"] = Hostile{Wasm: policyGuest(func(*guest) []byte { return grow(join(i32(1), []byte{opMemoryGrow, 0})) }).build(), Answers: true}
	fickle := policyGuest(func(*guest) []byte { // no opinion every other time
		return join([]byte{opGlobalGet, 0}, i32(1), []byte{0x73, opGlobalSet, 0, opGlobalGet, 0, opIf, blockEmpty}, noOpinion, []byte{0x0F, opEnd})
	})
	fickle.globals = [][]byte{join([]byte{0x7F, 1}, i32(0), []byte{opEnd})}
	all["changes its mind"] = Hostile{Wasm: fickle.build(), Answers: true}
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
		return string(policyGuest(func(*guest) []byte { return nil }).hook(h, output(m.AppendTo(nil))).build())
	}
	all[answering(hostabi.ErrorHook, &hostabi.ErrorOutput{Template: "{{nonsense}}"})] = []string{"an unknown slot", "nonsense"}
	all[answering(hostabi.ErrorHook, &hostabi.ErrorOutput{Template: "{{code"})] = []string{"an open slot", "envelope"}
	all[answering(hostabi.ErrorHook, &hostabi.ErrorOutput{Template: "{}", Status: 99})] = []string{"an impossible status", "99"}
	all[answering(hostabi.Configure, &hostabi.Shape{EventKey: []string{"type"}})] = []string{"a pointer that is none", "event key"}
	all[answering(hostabi.Configure, &hostabi.Shape{Constant: []hostabi.Hook{hostabi.Configure}})] = []string{"a constant configure", "constant"}
	garbage := policyGuest(func(*guest) []byte { return nil }).hook(hostabi.Classify, output([]byte{1, 0, 9}))
	all[string(garbage.build())] = []string{"half a message", "classify"}
	return all
}

// CompiledModules is how many are held.
func CompiledModules() int {
	codes.Lock()
	defer codes.Unlock()
	return len(codes.m)
}

var noOpinion = i64(int64(hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration)))

// policyGuest is a policy whose event key is /type and which does bad when a
// hook is asked about its trigger.
func policyGuest(bad func(*guest) []byte) *guest {
	g := newGuest()
	do := bad(g)
	answers := map[hostabi.Hook][]byte{hostabi.Admit: i64(0)}
	for h, trigger := range map[hostabi.Hook]int32{
		hostabi.Classify: ClassifyTrigger, hostabi.Admit: AdmitTrigger, hostabi.FramingHook: FramingTrigger, hostabi.FaultHook: FaultTrigger,
	} {
		answer := answers[h]
		if answer == nil {
			answer = noOpinion
		}
		g.hook(h, join(containing(trigger, do), answer))
		g.exports[h.Export()].locals = []byte{1, 1, 0x7F}
	}
	g.hook(hostabi.ErrorHook, noOpinion)
	shape := hostabi.Shape{EventKey: []string{"/type"}}
	return g.hook(hostabi.Configure, output(shape.AppendTo(nil)))
}

// containing does then once for each byte of the input that is b.
func containing(b int32, then []byte) []byte {
	at := []byte{opLocalGet, 1}
	return join([]byte{opLoop, blockEmpty}, at, []byte{opLocalGet, 0, 0x49, opIf, blockEmpty},
		at, []byte{0x2D, 0}, appendU32(nil, region), i32(b), []byte{0x46, opIf, blockEmpty}, then, []byte{opEnd},
		at, i32(1), []byte{0x6A, 0x21, 1, opBr, 1, opEnd, opEnd})
}

// output is the body of a hook that answers b.
func output(b []byte) []byte {
	var body bytes.Buffer
	for i, c := range b {
		body.Write(join(i32(region+int32(i)), i32(int32(c)), []byte{0x3A, 0, 0}))
	}
	body.Write(i64(int64(hostabi.MakeResult(uint32(len(b)), hostabi.StatusOK, hostabi.CacheGeneration))))
	return body.Bytes()
}
