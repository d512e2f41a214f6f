package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed overlay/pprof.go.txt
var pprofSource []byte

// buildProfiled builds Weir with a profiling listener laid over its sources,
// so that the shipped binary needs none.
func buildProfiled(ctx context.Context, dir string) (bin string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	added, err := filepath.Abs("proxy/cmd/weir/zz_bench_pprof.go")
	if err != nil {
		return "", err
	}
	source, overlay := filepath.Join(dir, "pprof.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{added: source}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(source, pprofSource, 0o644); err != nil {
		return "", err
	}
	defer os.Remove(source)
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		return "", err
	}
	defer os.Remove(overlay)
	bin = filepath.Join(dir, "weir")
	out, err := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", bin, "./proxy/cmd/weir").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building Weir with pprof: %w\n%s", err, tail(out))
	}
	return bin, nil
}

// profile fetches one profile of the proxy into the directory, beside the
// binary that go tool pprof needs.
func (x *proxy) profile(ctx context.Context, cell, what string) error {
	if x.pprof == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+x.pprof+"/debug/pprof/"+what, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(x.profiles, cell+".prof"))
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("profile: %s", resp.Status)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// cpuProfile is the query of a CPU profile that covers a measurement.
func cpuProfile(length time.Duration) string {
	return fmt.Sprintf("profile?seconds=%d", max(1, int(length.Seconds())))
}
