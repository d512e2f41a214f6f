package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// turn is one run of the interleaved rounds.
type turn struct {
	round int
	cell  cell
	peer  *peer
}

// interleave has the peers take turns at every cell, in each round.
func interleave(rounds int, cells []cell, peers []*peer) []turn {
	var turns []turn
	for round := range rounds {
		for _, c := range cells {
			for i := range peers {
				p := peers[(i+round)%len(peers)] // nobody is always first
				if c.ran(p.name) {
					turns = append(turns, turn{round, c, p})
				}
			}
		}
	}
	return turns
}

// runAll runs them, one after the other.
func runAll(ctx context.Context, turns []turn, length time.Duration) (all samples, err error) {
	fmt.Fprintf(os.Stderr, "%d runs of %v, about %v\n", len(turns), length, (time.Duration(len(turns)) * (length*6/5 + 500*time.Millisecond)).Round(time.Second))
	for i, t := range turns {
		s, err := t.run(ctx, length)
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", t.cell.name, t.peer.name, err)
		}
		all = append(all, s)
		fmt.Fprintf(os.Stderr, "%d/%d  %-11s %-8s %s\n", i+1, len(turns), t.cell.name, t.peer.name, s.line(t.cell))
	}
	return all, nil
}

// Minutes of measurements are not to be lost to one run of them.
const (
	startAttempts = 3 // a start that failed is counted in the results
	calmAttempts  = 3 // of which that counts from which the host withheld least
	calm          = 3 // percent that it may withhold
)

// run measures, once more when the host of the machine withheld its processors
// meanwhile: what comes out then is the host's doing.
func (t turn) run(ctx context.Context, length time.Duration) (best sample, err error) {
	for n := range calmAttempts {
		share := withheld()
		s, err := t.try(ctx, length)
		if err != nil {
			return s, err
		}
		s.round, s.stolen = t.round, share()
		if n == 0 || s.stolen < best.stolen {
			best = s
		}
		if s.stolen <= calm {
			break
		}
		fmt.Fprintf(os.Stderr, "%s on %s: the host withheld %.0f %% of the processors\n", t.cell.name, t.peer.name, s.stolen)
	}
	return best, nil
}

// try measures, and starts the peer again when it does not start.
func (t turn) try(ctx context.Context, length time.Duration) (sample, error) {
	s, err := measure(ctx, t.cell, t.peer, length)
	for attempts := 1; errors.Is(err, errStart) && ctx.Err() == nil && attempts < startAttempts; attempts++ {
		fmt.Fprintf(os.Stderr, "%s on %s, once more: %v\n", t.cell.name, t.peer.name, err)
		t.peer.failedStarts++
		s, err = measure(ctx, t.cell, t.peer, length)
	}
	return s, err
}
