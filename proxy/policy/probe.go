package policy

import (
	"context"
	"fmt"

	"weir/hostabi"
)

const (
	probeRoute = "probe" // name of the route in every sample
	probeKey   = "probe" // event key that no policy lists
)

// probe calls every hook of the guest that will be asked, with samples, so that
// one that fails is found before it decides anything.
func (p *Policy) probe(ctx context.Context) error {
	for h, f := range [hostabi.NumHooks]func(try) error{
		hostabi.Classify: p.probeClassify, hostabi.Admit: p.probeAdmit, hostabi.FramingHook: p.probeFraming,
		hostabi.FaultHook: p.probeFault, hostabi.ErrorHook: p.probeError,
	} {
		h := hostabi.Hook(h)
		if f == nil || !p.asked[h] {
			continue
		}
		err := f(func(sample func() error) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return p.patiently(patience, sample)
		})
		if err != nil {
			return fmt.Errorf("hook %s: %w", h, err)
		}
	}
	return nil
}

// try runs one sample.
type try func(sample func() error) error

func (p *Policy) probeClassify(try try) error {
	for _, k := range append([]string{"", probeKey}, p.shape.Prewarm...) {
		for _, d := range []hostabi.Direction{hostabi.ToUpstream, hostabi.ToClient} {
			err := try(func() error {
				_, _, err := p.classify(probeRoute, d, k)
				return err
			})
			if err != nil {
				return fmt.Errorf("key %q %s: %w", k, directionName(d), err)
			}
		}
	}
	return nil
}

func (p *Policy) probeAdmit(try try) error {
	in := hostabi.AdmitInput{Route: probeRoute, Method: "GET", Host: "localhost", Path: "/", Query: "probe=1", Peer: "127.0.0.1"}
	for _, in.Transport = range []hostabi.Transport{hostabi.HTTP, hostabi.WebSocket} {
		if err := try(func() error { _, err := p.admit(nil, &in); return err }); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) probeFraming(try try) error {
	in := hostabi.FramingInput{Route: probeRoute, Path: "/"}
	return try(func() error {
		_, _, err := p.framing(nil, &in)
		return err
	})
}

func (p *Policy) probeFault(try try) error {
	samples := []hostabi.FaultInput{{Route: probeRoute, Status: 400}, {Route: probeRoute, Status: 502, Body: []byte("{}")}}
	for _, row := range hostabi.Catalogue {
		samples = append(samples, hostabi.FaultInput{Route: probeRoute, Code: row.Code, Status: uint16(row.Status)})
	}
	for _, in := range samples {
		if err := try(func() error { _, _, err := p.askFault(&in, Fault{}); return err }); err != nil {
			return fmt.Errorf("code %q, status %d: %w", in.Code, in.Status, err)
		}
	}
	return nil
}

func (p *Policy) probeError(try try) error {
	for i := range numFaults {
		for l := range numLegs {
			c := codeAt(i)
			if !hasEnvelope(c, l) {
				continue
			}
			if err := try(func() error { _, err := p.envelope(probeRoute, c, l); return err }); err != nil {
				return fmt.Errorf("envelope of %s %s: %w", c, l, err)
			}
		}
	}
	return nil
}
