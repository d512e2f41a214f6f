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
			if err := r.reload(ctx, x, int(s.reloads)+1); err != nil {
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

// reload replaces the policy by another build of it and has it taken up.
func (r *load) reload(ctx context.Context, x *proxy, build int) error {
	if err := x.replaceModule(build); err != nil {
		return err
	}
	if err := postReload(ctx, x.admin); err != nil {
		return err
	}
	return r.sleep(ctx, reloadEvery)
}

// replaceModule puts a build of the policy in the place of the one before.
func (x *proxy) replaceModule(build int) error {
	wasm, err := os.ReadFile(x.original)
	if err != nil {
		return err
	}
	if err := os.WriteFile(x.module+".new", otherBuild(wasm, build), 0o644); err != nil {
		return err
	}
	return os.Rename(x.module+".new", x.module)
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
