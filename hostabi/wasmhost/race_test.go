//go:build race

package wasmhost_test

// reloads of hostile policies in each engine: under the race detector, which
// makes one take ten times as long, those that go through all of them once.
const reloads = 100
