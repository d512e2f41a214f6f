//go:build !race

package wasmhost_test

// reloads of hostile policies in each engine.
const reloads = 500
