//go:build !linux

package wasmhost

// inBackground runs f: elsewhere threads have no priority of their own.
func inBackground(f func()) { f() }
