//go:build !linux

package sock

import "math"

func acked(int) (uint64, bool) { return 0, false }

func unread(int) int { return math.MaxInt }
