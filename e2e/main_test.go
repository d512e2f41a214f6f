//go:build e2e

// Package e2e holds a running Weir to what its users see: the built binary,
// real sockets, and clients and backends that are not ours.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long a state is waited for before its absence is a failure:
// long, because the machine may be busy.
const patience = 30 * time.Second

// The files under test; WEIR_BIN and WEIR_PLUGINS name others than make build's.
var (
	weir     = file("WEIR_BIN", "../bin/weir")
	plugins  = file("WEIR_PLUGINS", "../plugins")
	standard = filepath.Join(plugins, "standard.wasm")
)

func file(env, otherwise string) string {
	path := os.Getenv(env)
	if path == "" {
		path = otherwise
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return abs
}

func TestMain(m *testing.M) {
	for _, needed := range []string{weir, standard, "node/node_modules/ws"} {
		if _, err := os.Stat(needed); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: %v; make e2e prepares what is needed\n", err)
			os.Exit(1)
		}
	}
	status := m.Run()
	guests.remove()
	os.Exit(status)
}

// eventually waits until what is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(patience); !so(); {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// receive takes from a channel that must deliver.
func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
	return v
}
