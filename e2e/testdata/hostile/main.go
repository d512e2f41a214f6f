//go:build wasip1

// Command hostile is a policy that the soak puts in the place of a good one: of
// some kinds of message it traps when it is asked, of others it never answers,
// and what it says of an answer is never of use. What it says of errors is in
// order, so that every refused message can still be told by its id.
package main

import (
	"weir/hostabi"
	"weir/plugins/sdk/go"
)

// What the soak has the standard policy say as well.
const (
	gap      = `{"type":"gap","dropped":{{count}}}`
	envelope = `{"type":"error","error":{"code":{{code}}{{?count}}{{?limit}}{{?actual}}{{?field:/id}}{{?field:/from}}}}`
)

func init() {
	sdk.Register(sdk.Policy{
		Shape:     sdk.Shape{EventKey: []string{"/type"}, Keep: []string{"/id", "/from"}},
		Configure: func(*sdk.ConfigureInput, *sdk.Shape) error { return nil }, // whatever it is
		Classify: func(in *sdk.ClassifyInput) (sdk.Rule, sdk.Answer) {
			switch string(in.Key) {
			case "presence":
				panic("not that")
			case "typing":
				for spin := 0; ; spin++ {
					sink = spin
				}
			case "cursor":
				return sdk.Rule{}, sdk.Once // ask again
			}
			return sdk.Rule{}, sdk.NoOpinion
		},
		Fault: func(in *sdk.FaultInput) (sdk.FaultOutput, sdk.Answer) {
			if in.Route == "r" { // not when it is tried
				return forever(nil)
			}
			return sdk.FaultOutput{}, sdk.NoOpinion
		},
		Error: func(in *sdk.ErrorInput) (sdk.ErrorOutput, sdk.Answer) {
			switch in.Code {
			case "gap":
				return sdk.ErrorOutput{Template: gap}, sdk.Always
			case "payload_too_large", "inbox_full", "pending_limit", "rate_limited", "upstream_closed":
				if in.Transport == hostabi.WebSocket {
					return sdk.ErrorOutput{Template: envelope}, sdk.Always
				}
			}
			return sdk.ErrorOutput{}, sdk.NoOpinion
		},
	})
}

// forever recurses until there is no more stack.
func forever(from []byte) (sdk.FaultOutput, sdk.Answer) {
	var frame [256]byte
	copy(frame[:], from)
	return forever(frame[:])
}

var sink int

func main() {}
