//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// gateway is one running Weir.
type gateway struct {
	t           *testing.T
	cmd         *exec.Cmd
	addr, admin string // host:port
	config      string // path of its gateway.toml
	token       string // for the admin listener
	settings    settings
	logs        *logs
	stdout      *output
	exited      chan struct{} // closed when the process is gone and its logs are read
	stopped     bool
}

// start runs Weir with a gateway.toml of s and waits until it is ready. When
// the test ends, Weir is drained and must exit 0.
func start(t *testing.T, s settings) *gateway {
	t.Helper()
	g := &gateway{t: t, addr: freeAddr(t), admin: freeAddr(t), settings: s}
	g.config = write(t, "gateway.toml", s.toml(g.addr, g.admin))
	g.run(s.env...)
	return g
}

// run starts the process on g.config. A policy has half a second to begin; on a
// machine that is too busy for that, Weir is started again.
func (g *gateway) run(env ...string) {
	g.t.Helper()
	for range 5 {
		g.launch(env...)
		if g.ready() {
			return
		}
	}
	g.t.Fatalf("weir does not start:\n%s", g.logs)
}

// ready waits until Weir serves; false: a policy took too long to begin.
func (g *gateway) ready() bool {
	g.t.Helper()
	late := false
	eventually(g.t, "weir to be ready", func() bool {
		if ready := g.logs.all("msg=ready"); len(ready) > 0 {
			if ready[0]["listen"] != g.addr {
				g.t.Errorf("ready on %v, want %s", ready[0]["listen"], g.addr)
			}
			return true
		}
		select {
		case <-g.exited:
			late = true
			return true
		default:
			return false
		}
	})
	if late && !busy(g.logs.String()) {
		g.t.Fatalf("weir does not start:\n%s", g.logs)
	}
	return !late
}

// busy tells a policy that had too little time on this machine from one that
// cannot be loaded.
func busy(says string) bool {
	return slices.ContainsFunc([]string{"the guest ran for ", " was free within ", " was not compiled within "}, func(late string) bool {
		return strings.Contains(says, late)
	})
}

func (g *gateway) launch(env ...string) {
	g.t.Helper()
	g.logs, g.stdout = newLogs(g.t), &output{}
	g.exited, g.stopped = make(chan struct{}), false
	g.cmd = exec.Command(weir, append([]string{"run", "-c", g.config}, g.settings.args...)...)
	if n := g.settings.files; n > 0 {
		g.cmd = exec.Command("/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, n)}, g.cmd.Args...)...)
	}
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Stdout = g.stdout
	stderr, err := g.cmd.StderrPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		g.t.Fatal(err)
	}
	exited, cmd, logs := g.exited, g.cmd, g.logs
	go func() { // ends with the process
		logs.read(stderr)
		_ = cmd.Wait()
		close(exited)
	}()
	g.t.Cleanup(func() {
		if !g.stopped && g.cmd == cmd && !g.t.Failed() {
			g.stop()
		}
		_ = cmd.Process.Kill()
		<-exited
		if g.t.Failed() {
			g.t.Logf("log of weir (%s):\n%s", g.config, logs)
		}
	})
}

// stop drains Weir: it must end in order and have panicked nowhere.
func (g *gateway) stop() {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	if status := g.wait(); status != 0 {
		g.t.Errorf("weir exited with status %d after a drain", status)
	}
}

// wait returns the exit status.
func (g *gateway) wait() int {
	g.t.Helper()
	g.stopped = true
	receive(g.t, "weir to exit", g.exited)
	if n := len(g.logs.all("level=ERROR", "msg=panic*")); n > 0 {
		g.t.Errorf("weir panicked %d times", n)
	}
	return g.cmd.ProcessState.ExitCode()
}

func (g *gateway) signal(s os.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
}

// limitFiles has descriptors of the process be below most, and returns what it was.
func (g *gateway) limitFiles(most uint64) (was uint64) {
	g.t.Helper()
	var l unix.Rlimit
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		g.t.Fatal(err)
	}
	was, l.Cur = l.Cur, most
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &l, nil); err != nil {
		g.t.Fatal(err)
	}
	return was
}

// exhaustFiles has clients take descriptors until left are free.
func (g *gateway) exhaustFiles(left int) {
	g.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	highest := 0
	for _, fd := range open {
		n, _ := strconv.Atoi(fd.Name())
		highest = max(highest, n)
	}
	g.limitFiles(uint64(highest) + 1 + uint64(left))
	for range highest + 1 - len(open) {
		g.client()
	}
}

// configure writes a gateway.toml of s in place of the running one.
func (g *gateway) configure(s settings) {
	g.t.Helper()
	g.settings = s
	replace(g.t, g.config, []byte(s.toml(g.addr, g.admin)))
}

// command runs weir to its end.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, weir, args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil && !errors.As(e, new(*exec.ExitError)) {
		t.Fatal(e)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}
