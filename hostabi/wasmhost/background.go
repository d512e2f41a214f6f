package wasmhost

import (
	"context"
	"fmt"
	"runtime/debug"
)

type backgroundKey struct{}

// withBackground has what is done for ctx give way to others (Options.Background).
func withBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// laboriously runs f, which works on a whole module: in the background if ctx says
// so. The guest itself is never run there, since its time is bounded by the clock.
func laboriously(ctx context.Context, f func()) {
	if ctx.Value(backgroundKey{}) == nil {
		f()
		return
	}
	var panicked any
	inBackground(func() {
		defer func() {
			if v := recover(); v != nil {
				panicked = fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
		}()
		f()
	})
	if panicked != nil {
		panic(panicked) // for who waits to contain
	}
}
