package policy

import (
	"fmt"
	"slices"
	"strings"

	"weir/hostabi"
	"weir/proxy/jsonpeek"
)

// Bounds of a shape: what is read from every message, or kept per policy.
const (
	maxEventKey = 8   // pointers that make the event key
	maxKeep     = 16  // fields kept for envelopes
	maxPrewarm  = 256 // event keys classified before the policy is used
	maxHeaders  = 64  // request headers a hook can ask for
)

// readShape decodes and checks the answer of weir_configure; none is empty.
func (p *Policy) readShape(b []byte) error {
	s := &p.shape
	if err := s.Decode(b); err != nil {
		return undecoded(err)
	}
	for _, l := range []struct {
		name string
		list []string
		max  int
	}{
		{"event key", s.EventKey, maxEventKey},
		{"keep", s.Keep, maxKeep},
		{"prewarm", s.Prewarm, maxPrewarm},
		{"framing headers", s.FramingHeaders, maxHeaders},
		{"admit headers", s.AdmitHeaders, maxHeaders},
	} {
		if len(l.list) > l.max {
			return fmt.Errorf("shape: %s has %d entries, at most %d are allowed", l.name, len(l.list), l.max)
		}
	}
	if err := p.readPointers(); err != nil {
		return err
	}
	p.named = make(map[string]bool, len(s.Prewarm))
	for _, k := range s.Prewarm {
		p.named[k] = true
		if len(k) > hostabi.MaxEventKey {
			return fmt.Errorf("shape: prewarm key %.32q… of %d bytes exceeds %d", k, len(k), hostabi.MaxEventKey)
		}
	}
	if err := headerNames("admit headers", s.AdmitHeaders, true); err != nil {
		return err
	}
	if err := headerNames("framing headers", s.FramingHeaders, false); err != nil {
		return err
	}
	if s.ErrorTypeHeader != "" {
		if err := headerNames("error type header", []string{s.ErrorTypeHeader}, false); err != nil {
			return err
		}
	}
	for h := range p.asked {
		p.asked[h] = p.guest.Has(hostabi.Hook(h))
	}
	for _, h := range s.Constant {
		if h == hostabi.Configure || h >= hostabi.NumHooks {
			return fmt.Errorf("shape: hook %d cannot be constant, only %d to %d", h, hostabi.Classify, hostabi.NumHooks-1)
		}
		p.asked[h] = false
	}
	return nil
}

func (p *Policy) readPointers() (err error) {
	if len(p.shape.EventKey) > 0 {
		if p.key, err = jsonpeek.NewKey(p.shape.EventKey); err != nil {
			return fmt.Errorf("shape: event key: %w", err)
		}
	}
	for i, s := range p.shape.Keep {
		if slices.Contains(p.shape.Keep[:i], s) {
			return fmt.Errorf("shape: keep has %q twice", s)
		}
		at, err := jsonpeek.Compile(s)
		if err != nil {
			return fmt.Errorf("shape: keep: %w", err)
		}
		p.keep = append(p.keep, at)
	}
	return nil
}

// headerNames checks that every name is a lower-case token (RFC 9110 §5.6.2).
func headerNames(what string, names []string, star bool) error {
	for _, n := range names {
		if n == "*" && star {
			continue
		}
		if n == "" || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'+-.^_`|~") != "" {
			return fmt.Errorf("shape: %s: %q is not a lower-case header name", what, n)
		}
	}
	return nil
}
