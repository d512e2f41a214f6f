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

// guests are built from testdata, each once.
var guests = &guestCache{built: map[string]string{}}

type guestCache struct {
	mu    sync.Mutex
	dir   string
	built map[string]string
}

// guest returns the module that refuses messages of type "note" above maxSize
// bytes.
func guest(t *testing.T, maxSize int) []byte {
	t.Helper()
	return built(t, "guest", fmt.Sprintf("-X main.maxSize=%d", maxSize))
}

// built returns the module made of a directory of testdata.
func built(t *testing.T, dir, ldflags string) []byte {
	t.Helper()
	path, err := guests.build(dir, ldflags)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (g *guestCache) build(dir, ldflags string) (path string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := dir + " " + ldflags
	if path := g.built[of]; path != "" {
		return path, nil
	}
	if g.dir == "" {
		if g.dir, err = os.MkdirTemp("", "weir-e2e"); err != nil {
			return "", err
		}
	}
	path = filepath.Join(g.dir, fmt.Sprintf("%d.wasm", len(g.built)))
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-buildvcs=false", "-trimpath",
		"-ldflags=-s -w "+ldflags, "-o", path, "./testdata/"+dir)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	g.built[of] = path
	return path, nil
}

func (g *guestCache) remove() {
	if g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
}
