package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreInOrder(t *testing.T) {
	for i := range 40 << histBits {
		if b := bucket(floor(i)); b != i {
			t.Fatalf("the least value of bucket %d is in bucket %d", i, b)
		}
		if b := bucket(floor(i+1) - 1); b != i {
			t.Fatalf("the greatest value of bucket %d is in bucket %d", i, b)
		}
	}
}

func TestQuantilesAreNear(t *testing.T) {
	var h hist
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]time.Duration, 10_000)
	for i := range all {
		all[i] = time.Duration(r.ExpFloat64() * float64(100*time.Microsecond))
		h.add(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.99} {
		want := all[int(q*float64(len(all)))]
		if got := h.quantile(q); got < want*98/100 || got > want*102/100 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
}
