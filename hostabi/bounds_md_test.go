package hostabi_test

import (
	"testing"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasmtest"
)

func TestBoundsOfABIEqualTheCode(t *testing.T) {
	HoldNumbers(t, ABITable(t, "ABI.md", "bound"), 1, 2, map[string]int{
		"MaxModuleBytes":  hostabi.MaxModuleBytes,
		"MaxMemoryPages":  hostabi.MaxMemoryPages,
		"MaxTableEntries": hostabi.MaxTableEntries,
		"MaxInput":        hostabi.MaxInput,
		"MaxOutput":       hostabi.MaxOutput,
		"MaxCachedKeys":   hostabi.MaxCachedKeys,
		"MaxEventKey":     hostabi.MaxEventKey,
		"MaxPointer":      hostabi.MaxPointer,
		"MaxLimitClass":   hostabi.MaxLimitClass,
		"MaxTemplate":     hostabi.MaxTemplate,
		"MaxEnvelope":     hostabi.MaxEnvelope,
		"MaxLogLine":      hostabi.MaxLogLine,
	})
}
