package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

// However often it is asked for, shedding begins at once and then keeps its
// pauses, in which what is asked is not lost.
func TestSheddingIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{pressure: make(chan struct{}, 1)}
		stop, ended := make(chan struct{}), make(chan struct{})
		var passes []time.Duration
		began := time.Now()
		go func() {
			defer close(ended)
			paced(g.pressure, stop, 5*time.Millisecond, func() { passes = append(passes, time.Since(began)) })
		}()
		for range 12 {
			g.askForShedding()
			g.askForShedding()
			time.Sleep(time.Millisecond) // of the bubble
		}
		time.Sleep(time.Second)
		close(stop)
		<-ended
		want := []time.Duration{0, 5 * time.Millisecond, 10 * time.Millisecond, 15 * time.Millisecond}
		if len(passes) != len(want) {
			t.Fatalf("passes at %v, want %v", passes, want)
		}
		for i := range want {
			if passes[i] != want[i] {
				t.Errorf("passes at %v, want %v", passes, want)
			}
		}
	})
}
