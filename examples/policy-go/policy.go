// Command policy-go is a whole Weir policy: typing indicators may be dropped
// when a client is slow, and a client is told how much it missed.
package main

import "weir/plugins/sdk/go"

func init() {
	sdk.Register(sdk.Policy{
		Shape: sdk.Shape{EventKey: []string{"/type"}},
		Classify: func(in *sdk.ClassifyInput) (sdk.Rule, sdk.Answer) {
			return sdk.Rule{Class: sdk.Droppable}, sdk.If(string(in.Key) == "typing")
		},
		Error: func(in *sdk.ErrorInput) (sdk.ErrorOutput, sdk.Answer) {
			return sdk.ErrorOutput{Template: `{"type":"gap","dropped":{{count}}}`}, sdk.If(in.Code == "gap")
		},
	})
}

func main() {}
