//go:build race

package wasmhost_test

// reloads of hostile policies in each engine: few under the race detector, where
// one takes ten times as long.
const reloads = 40
