//go:build !linux

package sock

func acked(int) uint64 { return 0 }

func unsent(int) uint32 { return 0 }
