//go:build !linux

package sock

func acked(int) (uint64, bool) { return 0, false }
