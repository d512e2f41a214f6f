package main

import (
	"testing"

	"weir/hostabi"
	"weir/hostabi/conformance"
	"weir/plugins/sdk/go"
)

func TestOnlyTypingIsDroppable(t *testing.T) {
	for key, want := range map[string]hostabi.Class{"typing": sdk.Droppable, "message": sdk.Critical} {
		out, _ := sdk.Call(hostabi.Classify, (&sdk.ClassifyInput{Key: []byte(key)}).AppendTo(nil))
		var rule sdk.Rule
		if err := rule.Decode(out); err != nil || rule.Class != want {
			t.Errorf("%s: %+v, %v", key, rule, err)
		}
	}
}

func TestConforms(t *testing.T) {
	conformance.Run(t, conformance.BuildGo(t, "."), []byte("{}"))
}
