package policy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasmtest"
	"weir/proxy/config"
)

// whole is a guest with every hook, without an opinion on anything.
func whole() *fakeGuest {
	return &fakeGuest{
		classify: func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) { return hostabi.Rule{}, noView },
		admit: func(*hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result) {
			return hostabi.AdmitOutput{}, noView
		},
		framing: func(*hostabi.FramingInput) (hostabi.FramingOutput, hostabi.Result) {
			return hostabi.FramingOutput{}, noView
		},
		fault: func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
			return hostabi.FaultOutput{}, noView
		},
		envelope: func(*hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
			return hostabi.ErrorOutput{}, noView
		},
	}
}

func TestLoadNamesTheHookThatFails(t *testing.T) {
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		for _, c := range []struct {
			name, says string
			break_     func(*fakeGuest)
		}{
			{"trap", "trap: made to fail", func(g *fakeGuest) { g.trap[h].Store(true) }},
			{"loop", "timeout: made to fail", func(g *fakeGuest) { g.late[h].Store(1 << 20) }},
			{"garbage", "tlv", func(g *fakeGuest) { g.raw[h] = []byte{1, 2, 3} }},
		} {
			g := whole()
			c.break_(g)
			_, err := tryStart(t, g)
			for _, part := range []string{`policy "p"`, "hook " + h.String(), c.says} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%s %s: error %v does not say %q", h, c.name, err, part)
				}
			}
			want(t, "closed", g.closed.Load(), true)
		}
	}
}

// An error is a line: what happened, without the guest's stack, and what to do.
func TestLoadSaysInOneLineWhatToDo(t *testing.T) {
	for _, c := range []struct {
		hook       hostabi.Hook
		body       []byte
		says, does string
	}{
		{hostabi.Classify, wasmtest.Unreachable, "trap: wasm error: unreachable; ", "what it logged may say why"},
		{hostabi.Classify, wasmtest.Forever, "timeout: the guest ran for ", "prepare in weir_configure"},
		{hostabi.FaultHook, wasmtest.I64(1), "wanted", "encode answers as ABI.md §6 says"},
		{hostabi.Admit, wasmtest.I64(17 << 32), "output: status 17 is reserved", "ABI.md §5.2"},
		{hostabi.Configure, wasmtest.Unreachable, "weir_configure: wasm error: unreachable; ", "what it logged may say why"},
		{hostabi.Configure, wasmtest.Forever, "weir_configure: the guest ran for ", "do less at start"},
		{hostabi.Configure, wasmtest.I64(1), "wanted", "encode answers as ABI.md §6 says"},
	} {
		g := wasmtest.NewGuest().Only(c.hook)
		g.Hook(c.hook, c.body)
		_, err := Load(t.Context(), Options{Config: config.Policy{Name: "p", Bytes: g.Build()}})
		if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "wazero") ||
			!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.does) {
			t.Errorf("%s: error %q does not say %q and %q", c.hook, err, c.says, c.does)
		}
	}
}

func TestLoadIsPatientWithABusyMachine(t *testing.T) {
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		g := whole()
		g.late[h].Store(patience - 1)
		start(t, g)
		g = whole()
		g.busy[h].Store(patience - 1)
		start(t, g)
	}
}

// Behind Load somebody waits for the fallback.
func TestABusyGuestIsAskedOnceForAMessage(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	g.busy[hostabi.Classify].Store(1)
	r.View("r").miss(hostabi.ToUpstream, "a", patience)
	want(t, "calls", g.calls[hostabi.Classify].Load(), 1)
}

func TestLoadSaysWhatTheGuestRefused(t *testing.T) {
	g := whole()
	g.admit = nil
	g.fault = func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		return hostabi.FaultOutput{}, hostabi.MakeResult(0, 300, 0)
	}
	_, err := tryStart(t, g)
	if err == nil || !strings.Contains(err.Error(), "refused with status 300") {
		t.Error(err)
	}
	refused := (&hostabi.Refusal{Message: "no such route"}).AppendTo(nil)
	want(t, "refusal", refusal(hostabi.StatusBadInput, refused).Error(), "refused with status 2: no such route")
}

func TestLoadProbesEverything(t *testing.T) {
	g := whole()
	seen := make(map[string]int)
	g.envelope = func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
		seen[fmt.Sprint(in.Code, in.Transport, in.Direction)]++
		return hostabi.ErrorOutput{}, noView
	}
	g.fault = func(in *hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		seen[string(in.Code)]++
		return hostabi.FaultOutput{}, noView
	}
	g.classify = func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		seen[fmt.Sprint("key ", string(in.Key), in.Direction)]++
		return hostabi.Rule{}, noView
	}
	g.shape.Prewarm = []string{"warm"}
	start(t, g)
	for _, row := range hostabi.Catalogue {
		for _, k := range []string{fmt.Sprint(row.Code, 0, 0), fmt.Sprint(row.Code, 1, 0), fmt.Sprint(row.Code, 1, 1), string(row.Code)} {
			want(t, k, seen[k], 1)
		}
	}
	want(t, "gap to the client", seen[fmt.Sprint(hostabi.Gap, 1, 1)], 1)
	want(t, "gap over HTTP", seen[fmt.Sprint(hostabi.Gap, 0, 0)], 0)
	want(t, "prewarm up", seen["key warm0"], 1)
	want(t, "prewarm down", seen["key warm1"], 1)
}

func TestLoadRefusesShapes(t *testing.T) {
	many := func(n int) (l []string) {
		for i := range n {
			l = append(l, fmt.Sprint("/", i))
		}
		return l
	}
	for _, c := range []struct {
		name  string
		shape hostabi.Shape
		says  string
	}{
		{"event key", hostabi.Shape{EventKey: []string{"type"}}, `"type"`},
		{"long event key", hostabi.Shape{EventKey: []string{"/" + strings.Repeat("k", hostabi.MaxPointer)}}, "257 bytes exceeds 256"},
		{"keep a long one", hostabi.Shape{Keep: []string{"/" + strings.Repeat("k", hostabi.MaxPointer)}}, "257 bytes exceeds 256"},
		{"event keys", hostabi.Shape{EventKey: many(9)}, "event key has 9 entries, at most 8"},
		{"keep", hostabi.Shape{Keep: []string{"/a~2"}}, `"/a~2"`},
		{"keep nothing", hostabi.Shape{Keep: []string{""}}, "empty"},
		{"keep twice", hostabi.Shape{Keep: []string{"/a", "/a"}}, "twice"},
		{"keeps", hostabi.Shape{Keep: many(17)}, "keep has 17"},
		{"prewarm", hostabi.Shape{Prewarm: []string{strings.Repeat("x", 129)}}, "129 bytes exceeds 128"},
		{"prewarms", hostabi.Shape{Prewarm: many(257)}, "prewarm has 257"},
		{"constant configure", hostabi.Shape{Constant: []hostabi.Hook{hostabi.Configure}}, "hook 0 cannot be constant"},
		{"admit header", hostabi.Shape{AdmitHeaders: []string{"X-Up"}}, `"X-Up" is not a lower-case`},
		{"empty header", hostabi.Shape{AdmitHeaders: []string{""}}, `""`},
		{"header with a line end", hostabi.Shape{FramingHeaders: []string{"a\r\nb"}}, `"a\r\nb"`},
		{"all framing headers", hostabi.Shape{FramingHeaders: []string{"*"}}, `"*"`},
		{"headers", hostabi.Shape{AdmitHeaders: many(65)}, "admit headers has 65"},
		{"error type header", hostabi.Shape{ErrorTypeHeader: "a b"}, `"a b"`},
	} {
		g := whole()
		g.shape = c.shape
		_, err := tryStart(t, g)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `policy "p": hook configure: shape`) {
			t.Errorf("%s: error %v does not say %q", c.name, err, c.says)
		}
	}
	g := whole()
	g.shape = hostabi.Shape{EventKey: []string{"/a", "/b"}, Keep: []string{"/id"}, AdmitHeaders: []string{"*", "x-a"}, FramingHeaders: []string{"x-version"}, ErrorTypeHeader: "x-amzn-errortype"}
	v := start(t, g).View("r")
	key, _ := v.Key().Append(nil, []byte(`{"a":"x","b":"y"}`))
	want(t, "key", string(key), "x:y")
	want(t, "keep", v.Keep()[0].String(), "/id")
	want(t, "admit headers", strings.Join(v.AdmitHeaders(), " "), "* x-a")
	want(t, "any header is judged", v.Judges([]byte("X-B")), true)
	want(t, "framing headers", strings.Join(v.FramingHeaders(), " "), "x-version")
	want(t, "error type", v.ErrorTypeHeader(), "x-amzn-errortype")
}

// mute is a guest without weir_configure.
type mute struct{ *fakeGuest }

func (m mute) Has(h hostabi.Hook) bool { return h != hostabi.Configure && m.fakeGuest.Has(h) }

func TestConfigNeedsSomebodyToReadIt(t *testing.T) {
	o := Options{Config: config.Policy{Name: "p", Config: map[string]any{"a": 1}}}
	_, err := load(t.Context(), o, mute{whole()}, newReporter(nil, "p"))
	if err == nil || !strings.Contains(err.Error(), "no weir_configure") {
		t.Error(err)
	}
}

func TestConfigureInputIsJSON(t *testing.T) {
	read := func(c config.Policy) hostabi.ConfigureInput {
		b, err := configureInput(&c)
		if err != nil {
			t.Fatal(err)
		}
		var in hostabi.ConfigureInput
		if err := in.Decode(b); err != nil {
			t.Fatal(err)
		}
		return in
	}
	in := read(config.Policy{Name: "p", Config: map[string]any{"b": []any{int64(1), "x"}, "a": map[string]any{"t": true}}})
	want(t, "config", string(in.Config), `{"a":{"t":true},"b":[1,"x"]}`)
	want(t, "policy", in.Policy, "p")
	want(t, "none", string(read(config.Policy{}).Config), "{}")
	for name, table := range map[string]map[string]any{
		"infinity": {"a": math.Inf(1)}, "long": {"a": strings.Repeat("x", 65536)},
	} {
		if _, err := configureInput(&config.Policy{Config: table}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := whole()
	_, err := load(ctx, Options{Config: config.Policy{Name: "p"}}, g, newReporter(nil, "p"))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	want(t, "closed", g.closed.Load(), true)
}

func TestLoadNamesWhatIsNoModule(t *testing.T) {
	_, err := Load(t.Context(), Options{Config: config.Policy{Name: "broken", Bytes: []byte("not wasm")}})
	if err == nil || !strings.Contains(err.Error(), `policy "broken"`) {
		t.Error(err)
	}
}

// FuzzShape: whatever weir_configure answers is refused, or kept within the
// bounds of what is read from every message.
func FuzzShape(f *testing.F) {
	for _, s := range []hostabi.Shape{
		{},
		{EventKey: []string{"/a", "/b/0"}, Keep: []string{"/id"}, Prewarm: []string{"x"}, Constant: []hostabi.Hook{hostabi.Admit}},
		{AdmitHeaders: []string{"*"}, FramingHeaders: []string{"x-version"}, ErrorTypeHeader: "x-amzn-errortype"},
	} {
		f.Add(s.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &Policy{guest: whole()}
		if err := p.readShape(b); err != nil {
			return
		}
		s := &p.shape
		if len(s.EventKey) > maxEventKey || len(s.Keep) > maxKeep || len(s.Prewarm) > maxPrewarm || len(s.AdmitHeaders) > maxHeaders || len(s.FramingHeaders) > maxHeaders {
			t.Errorf("accepted %+v", s)
		}
		if (p.key != nil) != (len(s.EventKey) > 0) || len(p.keep) != len(s.Keep) {
			t.Errorf("%+v gives the key %v and %v", s, p.key, p.keep)
		}
		for _, name := range append(slices.Clone(s.AdmitHeaders), s.FramingHeaders...) {
			if name != "*" && (name != strings.ToLower(name) || strings.ContainsAny(name, "\r\n: ")) {
				t.Errorf("accepted the header %q", name)
			}
		}
	})
}
