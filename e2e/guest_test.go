//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// guests are variants of testdata/guest, each built once.
var guests = &guestCache{built: map[int]string{}}

type guestCache struct {
	mu    sync.Mutex
	dir   string
	built map[int]string
}

// guest returns the module that refuses messages of type "note" above maxSize
// bytes.
func guest(t *testing.T, maxSize int) []byte {
	t.Helper()
	path, err := guests.build(maxSize)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (g *guestCache) build(maxSize int) (path string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if path := g.built[maxSize]; path != "" {
		return path, nil
	}
	if g.dir == "" {
		if g.dir, err = os.MkdirTemp("", "weir-e2e"); err != nil {
			return "", err
		}
	}
	path = filepath.Join(g.dir, fmt.Sprintf("%d.wasm", maxSize))
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-buildvcs=false", "-trimpath",
		fmt.Sprintf("-ldflags=-s -w -X main.maxSize=%d", maxSize), "-o", path, "./testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	g.built[maxSize] = path
	return path, nil
}

func (g *guestCache) remove() {
	if g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
}
