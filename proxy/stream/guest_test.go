package stream

import (
	"testing"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/policy"
)

// encoded is a message of the ABI.
type encoded interface{ AppendTo(dst []byte) []byte }

// viewOf is a route's view of a policy whose hooks always answer the same; a
// hook that is not in answers is not exported.
func viewOf(t *testing.T, answers map[hostabi.Hook]encoded) *policy.View {
	t.Helper()
	p, err := policy.Load(t.Context(), policy.Options{Config: config.Policy{
		Name: "test", Engine: "interpreter", OnFault: "closed", Bytes: guest(answers),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p.View("r")
}

// guest assembles a module of the ABI (ABI.md §3, §5): each hook copies its
// constant answer over its input.
func guest(answers map[hostabi.Hook]encoded) []byte {
	const (
		region = 1024      // of the buffer
		data   = 128 << 10 // where the answers lie
	)
	type function struct {
		export    string
		signature byte // index of the type
		body      []byte
	}
	functions := []function{
		{hostabi.ExportABI, 0, i32(hostabi.Version)},
		{hostabi.ExportBuffer, 1, i32(region)},
	}
	var constants []byte
	for h := range hostabi.Hook(hostabi.NumHooks) {
		answer, ok := answers[h]
		if !ok {
			continue
		}
		b := answer.AppendTo(nil)
		var body []byte
		body = append(body, i32(region)...)
		body = append(body, i32(int64(data+len(constants)))...)
		body = append(body, i32(int64(len(b)))...)
		body = append(body, 0xFC, 0x0A, 0, 0) // memory.copy
		body = append(body, 0x42)             // i64.const
		body = append(body, signed(int64(hostabi.MakeResult(uint32(len(b)), hostabi.StatusOK, hostabi.CacheNo)))...)
		functions = append(functions, function{h.Export(), 2, body})
		constants = append(constants, b...)
	}

	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, items ...[]byte) {
		body := unsigned(len(items))
		for _, i := range items {
			body = append(body, i...)
		}
		out = append(append(append(out, id), unsigned(len(body))...), body...)
	}
	var types, exports, code [][]byte
	exports = append(exports, append(name(hostabi.ExportMemory), 2, 0))
	for i, f := range functions {
		types = append(types, []byte{f.signature})
		exports = append(exports, append(append(name(f.export), 0), unsigned(i)...))
		body := append(append([]byte{0}, f.body...), 0x0B)
		code = append(code, append(unsigned(len(body)), body...))
	}
	section(1, []byte{0x60, 0, 1, 0x7F}, []byte{0x60, 2, 0x7F, 0x7F, 1, 0x7F}, []byte{0x60, 1, 0x7F, 1, 0x7E})
	section(3, types...)
	section(5, []byte{0, 3}) // three pages of memory
	section(7, exports...)
	section(10, code...)
	segment := append(append([]byte{0}, i32(data)...), 0x0B)
	section(11, append(append(segment, unsigned(len(constants))...), constants...))
	return out
}

func name(s string) []byte { return append(unsigned(len(s)), s...) }

func i32(v int64) []byte { return append([]byte{0x41}, signed(v)...) }

// unsigned and signed are LEB128.
func unsigned(v int) (b []byte) {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func signed(v int64) (b []byte) {
	for {
		c := byte(v & 0x7F)
		if v >>= 7; v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func TestTheGuestAnswers(t *testing.T) {
	v := viewOf(t, map[hostabi.Hook]encoded{
		hostabi.FramingHook: &hostabi.FramingOutput{Client: hostabi.FramedV1, MaxFrameSize: 300},
		hostabi.FaultHook:   &hostabi.FaultOutput{Retryable: true, RetryAfterMS: 1500},
	})
	if f := v.Framing(nil, &hostabi.FramingInput{}); f.Client != hostabi.FramedV1 || f.Upstream != hostabi.Raw || f.MaxFrameSize != 300 {
		t.Errorf("%+v", f)
	}
	if f := v.Fault(hostabi.NoRoute); !f.Retryable || f.RetryAfter.Milliseconds() != 1500 {
		t.Errorf("%+v", f)
	}
}
