package policy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	"weir/hostabi/conformance"
	"weir/hostabi/wasmhost"
	"weir/proxy/config"
)

// A rehearsal asks what peers will, with the headers that the guest wants, and
// ends where a guest fails.
func TestARehearsalIsAsVariedAsPeers(t *testing.T) {
	keys, queries, headers, versions := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	g := &fakeGuest{
		shape: hostabi.Shape{AdmitHeaders: []string{"authorization", "*"}, FramingHeaders: []string{"x-version"}},
		classify: func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
			keys[string(in.Key)] = true
			return hostabi.Rule{}, noView
		},
		admit: func(in *hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result) {
			queries[in.Query] = true
			for _, h := range in.Headers {
				headers[h.Name] = true
			}
			return hostabi.AdmitOutput{}, ok
		},
		framing: func(in *hostabi.FramingInput) (hostabi.FramingOutput, hostabi.Result) {
			for _, h := range in.Headers {
				versions[h.Name+h.Value] = true
			}
			return hostabi.FramingOutput{}, ok
		},
	}
	rehearse(t.Context(), Options{}, g)
	if len(keys) < 2*len(rehearsedKeys) || len(queries) < len(rehearsedValues) || len(versions) != len(rehearsedValues) || !headers["authorization"] || len(headers) != 2 {
		t.Errorf("asked about keys %v, queries %v, headers %v and %v", keys, queries, headers, versions)
	}
	failing := &fakeGuest{admit: func(*hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result) { return hostabi.AdmitOutput{}, ok }}
	failing.trap[hostabi.Admit].Store(true)
	rehearse(t.Context(), Options{}, failing)
	if n := failing.calls[hostabi.Admit].Load(); n != 1 {
		t.Errorf("%d calls of a guest that fails", n)
	}
}

// The standard policy as it is rehearsed needs next to nothing more for what it is
// then asked, with every kind of setting: a function that compares two words of a
// version, and each of two instances may miss it.
func TestTheStandardPolicyIsRehearsedWell(t *testing.T) {
	var lines bytes.Buffer
	table := map[string]any{
		"event_key": []any{"/type", "/name"}, "droppable": []any{"presence", "typing:*"}, "gap_notice": true,
		"conflate": map[string]any{"cursor": "/user"}, "max_size": map[string]any{"note*": "64KiB"},
		"framing": map[string]any{"header": "x-version", "client": "auto", "range": ">=4.6.0 <5.0.0-0 || >=5.0.0-beta.15"},
		"admit": map[string]any{"default": "deny", "rules": []any{
			map[string]any{"allow": true, "query": "key", "one_of": []any{"good", "a b"}},
			map[string]any{"deny": true, "header": "x-blocked", "prefix": "yes", "message": "blocked"},
		}},
	}
	p, err := Load(t.Context(), Options{
		Config:      config.Policy{Name: "standard", Bytes: conformance.BuildGo(t, "weir/plugins/standard"), Engine: wasmhost.Interpreter, Config: table},
		Log:         slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		CallTimeout: time.Second, InitTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		for _, key := range []string{"presence", "typing:x", "cursor", "note1", "other", strings.Repeat("k", 200)} {
			if _, _, err := p.classify("r", hostabi.Direction(i%2), key); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []string{"key=good", "key=a+b", "key=%67ood&x", "", "k%zz=1"} {
			in := hostabi.AdmitInput{Route: "r", Transport: hostabi.Transport(i % 2), Path: "/", Query: q, Headers: []hostabi.Header{{Name: "x-blocked", Value: "yes!"}}}
			if _, err := p.admit(nil, &in); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range []string{"4.7.1", "5.0.0-beta.14", "none", ""} {
			in := hostabi.FramingInput{Route: "r", Path: "/", Headers: []hostabi.Header{{Name: "x-version", Value: v}}}
			if _, _, err := p.framing(nil, &in); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.Close()
	if n := strings.Count(lines.String(), "for the first time"); n > 2 {
		t.Errorf("%d functions were missing:\n%s", n, &lines)
	}
}
