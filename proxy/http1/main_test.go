package http1

import (
	"testing"

	"weir/proxy/leak"
)

// TestMain fails when goroutines of this package outlive its tests.
func TestMain(m *testing.M) { leak.Exit(m.Run(), leak.Goroutines("weir/proxy/")) }
