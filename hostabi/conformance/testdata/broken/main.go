// Command broken is a policy that breaks the rule its configuration names.
package main

import (
	"strings"

	"weir/plugins/sdk/go"
)

var (
	how   string
	calls int
	hoard []string
)

func init() {
	sdk.Register(sdk.Policy{
		Configure: func(in *sdk.ConfigureInput, shape *sdk.Shape) error {
			how = string(in.Config)
			if how == "constant" {
				shape.Constant = append(shape.Constant, 1)
			}
			return nil
		},
		Classify: func(*sdk.ClassifyInput) (r sdk.Rule, a sdk.Answer) {
			calls++
			switch how {
			case "impure":
				r.Priority = uint8(calls)
			case "pointer":
				r.Unless = "seq"
			case "trap":
				panic("on purpose")
			case "slow":
				for range 100_000 {
					calls++
				}
			case "leak":
				hoard = append(hoard, strings.Repeat("x", 2048))
			case "long":
				r.Unless = strings.Repeat("/", 9000)
			}
			return r, sdk.Always
		},
		Error: func(in *sdk.ErrorInput) (out sdk.ErrorOutput, a sdk.Answer) {
			out.Template = map[string]string{
				"slot": "{{nothing}}", "open": "{{code", "json": "{{code}", "field": "{{field:/id}}", "optional": "[{{?code}}]",
			}[how]
			return out, sdk.If(out.Template != "")
		},
	})
}

func main() {}
