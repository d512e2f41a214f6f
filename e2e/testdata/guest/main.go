//go:build wasip1

// Command guest is a policy of which tests build variants: it bounds messages
// of type "note", and fails where it is asked to.
package main

import (
	"strconv"

	"weir/plugins/sdk/go"
)

var maxSize = "100" // bytes of a message of type "note"; set by the linker

func init() {
	limit, err := strconv.ParseUint(maxSize, 10, 64)
	if err != nil {
		panic(err)
	}
	sdk.Register(sdk.Policy{
		Shape: sdk.Shape{EventKey: []string{"/type"}},
		Classify: func(in *sdk.ClassifyInput) (sdk.Rule, sdk.Answer) {
			switch key := string(in.Key); key {
			case "note":
				return sdk.Rule{MaxSize: limit}, sdk.Always
			default:
				fail(key)
				return sdk.Rule{}, sdk.NoOpinion
			}
		},
		Admit: func(in *sdk.AdmitInput) (sdk.AdmitOutput, sdk.Answer) {
			fail(in.Query)
			return sdk.AdmitOutput{}, sdk.Once
		},
	})
}

func fail(how string) {
	switch how {
	case "trap":
		panic("asked for")
	case "loop":
		for spin := 0; ; spin++ {
			sink = spin
		}
	}
}

var sink int

func main() {}
