package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// measureBeside has one-in-flight traffic go on, first undisturbed and then
// beside stalled clients or reloads: two halves of one run, so that they
// differ in nothing else.
func measureBeside(ctx context.Context, r *load, x *proxy, s *sample, length time.Duration) error {
	if err := x.writeBuilds(length); err != nil {
		return err
	}
	if err := r.warmUp(ctx, length); err != nil {
		return err
	}
	r.phase.Store(measured)
	began, n := time.Now(), r.count.Load()
	if err := r.sleep(ctx, length); err != nil {
		return err
	}
	s.rate = float64(r.count.Load()-n) / time.Since(began).Seconds()
	if r.cell.stalled > 0 {
		r.phase.Store(filling)
		if err := r.stall(ctx, x, s); err != nil {
			return err
		}
		r.phase.Store(disturbed)
		for began := time.Now(); time.Since(began) < length; {
			if err := r.look(ctx, x, s); err != nil {
				return err
			}
		}
	} else {
		r.phase.Store(disturbed)
		for began := time.Now(); time.Since(began) < length || s.reloads < 2; s.reloads++ {
			if err := r.reload(ctx, x); err != nil {
				return err
			}
		}
	}
	r.phase.Store(unmeasured)
	return x.profile(ctx, r.cell.name, "heap")
}

// look waits a little and keeps the most memory that was seen.
func (r *load) look(ctx context.Context, x *proxy, s *sample) error {
	if err := r.sleep(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	memory, err := resident(x.pids)
	s.memory = max(s.memory, float64(memory))
	return err
}

const (
	stallWithin = 3 * time.Second        // buffers are full, or the proxy is one that goes on reading
	reloadEvery = 200 * time.Millisecond // pause between reloads
)

// stall opens the clients that stop reading and waits until what is pushed to
// them has come to a halt.
func (r *load) stall(ctx context.Context, x *proxy, s *sample) error {
	head := make([]byte, 4096)
	for range r.cell.stalled {
		c, err := net.DialTimeout("tcp", x.addr, 5*time.Second)
		if err != nil {
			return err
		}
		r.stalled = append(r.stalled, c)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, hello("/ws/flood?id=0")); err != nil {
			return err
		}
		if n, err := c.Read(head); err != nil || !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 101 ")) {
			return fmt.Errorf("the handshake of a client to be stalled was answered with %.300q, %w", head[:n], err)
		}
	}
	for deadline := time.Now().Add(stallWithin); time.Now().Before(deadline); {
		before := r.flooded.Load()
		if err := r.look(ctx, x, s); err != nil {
			return err
		}
		if r.flooded.Load() == before {
			break
		}
	}
	return nil
}

// reload has the proxy take up its configuration anew, Weir with another build
// of its policy.
func (r *load) reload(ctx context.Context, x *proxy) error {
	if x.signal != 0 {
		if err := x.cmd.Process.Signal(x.signal); err != nil {
			return err
		}
		return r.sleep(ctx, reloadEvery)
	}
	if len(x.builds) > 0 {
		if err := os.Rename(x.builds[0], x.module); err != nil {
			return err
		}
		x.builds = x.builds[1:]
	}
	if err := postReload(ctx, x.admin); err != nil {
		return err
	}
	return r.sleep(ctx, reloadEvery)
}

// writeBuilds lays builds of the policy ready, as many as there will be reloads
// at most: writing them beside the tunnels would delay these by itself.
func (x *proxy) writeBuilds(length time.Duration) error {
	if x.module == "" {
		return nil
	}
	for n := range int(length/reloadEvery) + 2 {
		path := fmt.Sprintf("%s.%d", x.module, n+1)
		if err := x.writeBuild(path, n+1); err != nil {
			return err
		}
		x.builds = append(x.builds, path)
	}
	return nil
}

// writeBuild writes another build of the policy.
func (x *proxy) writeBuild(path string, build int) error {
	wasm, err := os.ReadFile(x.original)
	if err != nil {
		return err
	}
	return os.WriteFile(path, otherBuild(wasm, build), 0o644)
}

// otherBuild is the module with a custom section behind it: other bytes that
// mean the same.
func otherBuild(wasm []byte, build int) []byte {
	wasm = append(wasm[:len(wasm):len(wasm)], 0, 1+5+4, 5)
	wasm = append(wasm, "build"...)
	return binary.LittleEndian.AppendUint32(wasm, uint32(build))
}

// postReload asks the admin listener for a reload and awaits it.
func postReload(ctx context.Context, admin string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+"/reload", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 2000))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New("the reload was refused: " + string(body))
	}
	return err
}
