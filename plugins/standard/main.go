// Command standard is the policy that Weir ships: what may be dropped, what an
// error looks like, who is admitted, which framing a peer speaks and what is
// worth retrying, all from [policy.NAME.config].
package main

import (
	"weir/plugins/sdk/go"
	"weir/plugins/sdk/go/conf"
)

// settings are one configuration; nothing changes them after configure.
type settings struct {
	events    events
	admission admission
	framing   framing
	faults    faults
	envelopes envelopes
}

var current settings // of this instance

func init() {
	sdk.Register(sdk.Policy{
		Configure: configure,
		Classify:  func(in *sdk.ClassifyInput) (sdk.Rule, sdk.Answer) { return current.events.classify(in) },
		Admit:     func(in *sdk.AdmitInput) (sdk.AdmitOutput, sdk.Answer) { return current.admission.admit(in) },
		Framing:   func(in *sdk.FramingInput) (sdk.FramingOutput, sdk.Answer) { return current.framing.choose(in) },
		Fault:     func(in *sdk.FaultInput) (sdk.FaultOutput, sdk.Answer) { return current.faults.classify(in) },
		Error:     func(in *sdk.ErrorInput) (sdk.ErrorOutput, sdk.Answer) { return current.envelopes.envelope(in) },
	})
}

func main() {}

func configure(in *sdk.ConfigureInput, shape *sdk.Shape) error {
	c := conf.Read(in.Config)
	var s settings
	s.events.read(c, shape)
	s.admission.read(c, shape)
	s.framing.read(c, shape)
	s.faults.read(c, shape)
	s.envelopes.read(c, shape)
	if err := c.Err(); err != nil {
		return err
	}
	current = s
	return nil
}
