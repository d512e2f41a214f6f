package main

import (
	"math/bits"
	"time"
)

// hist counts durations in buckets of about 1.6 % width.
type hist struct {
	count [64 << histBits]int64
	total int64
	worst time.Duration // the longest
}

const histBits = 6

func (h *hist) add(d time.Duration) {
	h.count[bucket(uint64(max(d, 0)))]++
	h.total++
	h.worst = max(h.worst, d)
}

// bucket is the value's highest bit and the histBits bits below it.
func bucket(v uint64) int {
	if v < 1<<histBits {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - histBits
	return (shift+1)<<histBits + int(v>>shift) - 1<<histBits
}

// floor is the least value of a bucket.
func floor(i int) uint64 {
	if i < 1<<histBits {
		return uint64(i)
	}
	shift := i>>histBits - 1
	return uint64(i&(1<<histBits-1)+1<<histBits) << shift
}

// quantile is the duration that a part q of all did not exceed.
func (h *hist) quantile(q float64) time.Duration {
	rank := int64(q * float64(h.total))
	for i, n := range h.count {
		if rank < n {
			return time.Duration((floor(i) + floor(i+1)) / 2)
		}
		rank -= n
	}
	return 0
}
