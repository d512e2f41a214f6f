package sdk

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"weir/hostabi"
)

func register(t *testing.T, p Policy) {
	t.Helper()
	before := registered
	t.Cleanup(func() { registered = before })
	Register(p)
}

func configured(t *testing.T, config string) (Shape, string) {
	t.Helper()
	out, r := Call(hostabi.Configure, (&ConfigureInput{Policy: "p", Config: []byte(config)}).AppendTo(nil))
	var s Shape
	var refusal hostabi.Refusal
	var err error
	if r.Status() == hostabi.StatusOK {
		err = s.Decode(out)
	} else {
		err = refusal.Decode(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, refusal.Message
}

func TestUnsetHooksHaveNoOpinion(t *testing.T) {
	register(t, Policy{})
	s, _ := configured(t, "{}")
	if want := []hostabi.Hook{1, 2, 3, 4, 5}; !reflect.DeepEqual(s.Constant, want) {
		t.Errorf("constant %v, want %v", s.Constant, want)
	}
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		if out, r := Call(h, nil); len(out) != 0 || r != hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration) {
			t.Errorf("%s: %q, %#x", h, out, uint64(r))
		}
	}
}

func TestSetHooksAreAsked(t *testing.T) {
	register(t, Policy{
		Shape:    Shape{EventKey: []string{"/type"}},
		Classify: func(in *ClassifyInput) (Rule, Answer) { return Rule{Class: Droppable}, If(string(in.Key) == "typing") },
		Admit:    func(in *AdmitInput) (AdmitOutput, Answer) { return AdmitOutput{Deny: in.Method != "GET"}, Once },
		Framing:  func(*FramingInput) (FramingOutput, Answer) { return FramingOutput{Client: 1}, Seconds(0xFFFF) },
		Fault:    func(*FaultInput) (FaultOutput, Answer) { return FaultOutput{RetryAfterMS: 1}, Always },
		Error:    func(in *ErrorInput) (ErrorOutput, Answer) { return ErrorOutput{Template: string(in.Code)}, Always },
	})
	s, _ := configured(t, "")
	if len(s.Constant) != 0 || s.EventKey[0] != "/type" {
		t.Errorf("shape %+v", s)
	}
	f := func(h hostabi.Hook, in, want output, cache hostabi.Cacheability) {
		t.Helper()
		out, r := Call(h, in.AppendTo(nil))
		if string(out) != string(want.AppendTo(nil)) || r.Status() != hostabi.StatusOK || r.Cache() != cache {
			t.Errorf("%s %+v: % x, %#x", h, in, out, uint64(r))
		}
	}
	f(hostabi.Classify, &ClassifyInput{Key: []byte("typing")}, &Rule{Class: Droppable}, hostabi.CacheGeneration)
	f(hostabi.Admit, &AdmitInput{Method: "PUT"}, &AdmitOutput{Deny: true}, hostabi.CacheNo)
	f(hostabi.FramingHook, &FramingInput{}, &FramingOutput{Client: 1}, 0xFFFE)
	f(hostabi.FaultHook, &FaultInput{}, &FaultOutput{RetryAfterMS: 1}, hostabi.CacheGeneration)
	f(hostabi.ErrorHook, &ErrorInput{Code: "gap"}, &ErrorOutput{Template: "gap"}, hostabi.CacheGeneration)
	if _, r := Call(hostabi.Classify, (&ClassifyInput{Key: []byte("other")}).AppendTo(nil)); r.Status() != hostabi.StatusNoOpinion {
		t.Errorf("other: %#x", uint64(r))
	}
}

func TestRefusalsReachTheOperator(t *testing.T) {
	register(t, Policy{})
	if _, m := configured(t, `{"a":1}`); m != "config: this policy has no settings" {
		t.Errorf("settings nobody reads: %q", m)
	}
	register(t, Policy{Configure: func(in *ConfigureInput, s *Shape) error {
		s.Prewarm = []string{strings.Repeat("x", 9000)}
		if string(in.Config) == "long" {
			return errors.New(strings.Repeat("y", 9000))
		}
		return nil
	}})
	if _, m := configured(t, `{}`); m != "output of 9029 bytes exceeds 8192" {
		t.Errorf("shape that is too large: %q", m)
	}
	if _, m := configured(t, "long"); len(m) != hostabi.MaxOutput-4 {
		t.Errorf("long refusal: %d bytes", len(m))
	}
}

func TestMalformedInputIsRefused(t *testing.T) {
	register(t, Policy{
		Configure: func(*ConfigureInput, *Shape) error { return nil },
		Classify:  func(*ClassifyInput) (Rule, Answer) { return Rule{}, Always },
	})
	for _, h := range []hostabi.Hook{hostabi.Configure, hostabi.Classify} {
		out, r := Call(h, []byte{1, 0, 9})
		var m hostabi.Refusal
		if err := m.Decode(out); err != nil || r.Status() != hostabi.StatusBadInput || m.Message != "tlv tag 0: wanted 4 bytes, have 3" {
			t.Errorf("%s: %q, %#x, %v", h, m.Message, uint64(r), err)
		}
	}
	if _, r := Call(hostabi.NumHooks, nil); r.Status() != hostabi.StatusUnsupported {
		t.Errorf("unknown hook: %#x", uint64(r))
	}
}

type output interface{ AppendTo([]byte) []byte }
