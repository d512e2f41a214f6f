//go:build !race

package policy

// slower is how much longer a guest takes under the race detector.
const slower = 1
