//go:build !linux

package wasmhost

import "time"

// threadTime does not know how long the thread has run.
func threadTime() time.Duration { return 0 }
