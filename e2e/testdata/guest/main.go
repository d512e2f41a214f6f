//go:build wasip1

// Command guest is a policy of ten lines, of which tests build variants.
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
			if string(in.Key) != "note" {
				return sdk.Rule{}, sdk.NoOpinion
			}
			return sdk.Rule{MaxSize: limit}, sdk.Always
		},
	})
}

func main() {}
