package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/config"
)

// fakeGateway tells each step it is asked for on steps.
type fakeGateway struct {
	steps   chan string
	drained chan error // what Run returns once it drains; nil: at once, nil
	broken  chan error // what Run returns before
}

func (g *fakeGateway) Addr() net.Addr      { return address("127.0.0.1:8080") }
func (g *fakeGateway) AdminAddr() net.Addr { return address("127.0.0.1:9090") }

// address is a TCP address.
func address(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func (g *fakeGateway) Run(ctx context.Context) error {
	g.steps <- "run"
	select {
	case err := <-g.broken:
		return err
	case <-ctx.Done():
	}
	g.steps <- "drain"
	if g.drained == nil {
		return nil
	}
	return <-g.drained
}

func (g *fakeGateway) Reload() error {
	g.steps <- "reload"
	return errors.New("no such policy")
}

// started is a "weir run" under way.
type started struct {
	*fakeGateway
	t       *testing.T
	signals chan os.Signal
	result  chan error
	out     bytes.Buffer // read after the result
	log     bytes.Buffer
}

func start(t *testing.T, g *fakeGateway) *started {
	t.Helper()
	g.steps = make(chan string)
	s := &started{fakeGateway: g, t: t, signals: make(chan os.Signal, 8), result: make(chan error, 1)}
	c := cli{
		out: &s.out, err: &s.log, config: write(t, "gateway.toml", minimal),
		start: func(context.Context, *config.Config, *slog.Logger) (runner, error) { return g, nil },
	}
	go func() { s.result <- c.run(t.Context(), slog.New(slog.NewJSONHandler(&s.log, nil)), s.signals) }()
	s.step("run")
	return s
}

// step waits for the gateway's next step.
func (s *started) step(want string) {
	s.t.Helper()
	if got := <-s.steps; got != want {
		s.t.Fatalf("got %s, want %s", got, want)
	}
}

func TestRunDrainsOnTheFirstSignal(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := start(t, &fakeGateway{})
		s.signals <- sig
		s.step("drain")
		if err := <-s.result; err != nil {
			t.Errorf("%v: %v", sig, err)
		}
		if !strings.HasPrefix(s.out.String(), "weir: listening on http://127.0.0.1:8080, admin on http://127.0.0.1:9090;") {
			t.Errorf("stdout %q", s.out.String())
		}
		if !strings.Contains(s.log.String(), `"msg":"told to end","signal":"`+sig.String()+`"`) {
			t.Errorf("log %q", s.log.String())
		}
	}
}

// Loading policies may take long, and nothing is served meanwhile.
func TestRunEndsAtOnceWhileItStarts(t *testing.T) {
	starting, signals, result := make(chan struct{}), make(chan os.Signal, 8), make(chan error, 1)
	var out, log bytes.Buffer
	c := cli{
		out: &out, err: &log, config: write(t, "gateway.toml", minimal),
		start: func(ctx context.Context, _ *config.Config, _ *slog.Logger) (runner, error) {
			close(starting)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	go func() { result <- c.run(t.Context(), slog.New(slog.NewJSONHandler(&log, nil)), signals) }()
	<-starting
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	if err := <-result; err != nil || out.Len() > 0 || !strings.Contains(log.String(), `"msg":"told to end"`) {
		t.Errorf("%v, stdout %q, log %q", err, out.String(), log.String())
	}
}

// So may finding all that is wrong with a configuration.
func TestRunEndsAtOnceWhileItLooksForProblems(t *testing.T) {
	src := minimal + "[limits]\nmax_inbox = 0\n"
	for i := range 300 {
		src += fmt.Sprintf("[policy.p%d]\nmodule = \"future.wasm\"\n", i)
	}
	path := write(t, "gateway.toml", src)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "future.wasm"), futureModule, 0o600); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	var out, log bytes.Buffer
	c := cli{out: &out, err: &out, config: path}
	if err := c.run(t.Context(), slog.New(slog.NewJSONHandler(&log, nil)), signals); err != nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestRunEndsAtOnceOnTheSecondSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeGateway{drained: make(chan error)})
		s.signals <- syscall.SIGTERM
		s.step("drain")
		time.Sleep(sameSignal)
		s.signals <- syscall.SIGINT
		if err := <-s.result; err != failed {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(s.log.String(), `"msg":"ended by a second signal before the drain was over","signal":"interrupt"`) {
			t.Errorf("log %q", s.log.String())
		}
		s.drained <- nil // lets the fake's goroutine end
	})
}

// timeout(1) signals Weir, and then its group with Weir in it.
func TestASignalThatComesTwiceIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeGateway{drained: make(chan error)})
		s.signals <- syscall.SIGTERM
		s.signals <- syscall.SIGTERM
		s.step("drain")
		time.Sleep(sameSignal - 1)
		s.signals <- syscall.SIGTERM
		synctest.Wait()
		s.drained <- nil
		if err := <-s.result; err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestRunReloadsOnSIGHUP(t *testing.T) {
	s := start(t, &fakeGateway{})
	for range 3 {
		s.signals <- syscall.SIGHUP
		s.step("reload")
	}
	s.signals <- syscall.SIGTERM
	s.step("drain")
	if err := <-s.result; err != nil {
		t.Error(err)
	}
}

func TestRunEndsWithItsGateway(t *testing.T) {
	g := &fakeGateway{broken: make(chan error, 1)}
	s := start(t, g)
	g.broken <- errors.New("listener lost")
	if err := <-s.result; err != failed || !strings.Contains(s.log.String(), `"level":"ERROR","msg":"ended","error":"listener lost"`) {
		t.Errorf("got %v, log %q", err, s.log.String())
	}
}

func TestRunSaysWhyItCannotStart(t *testing.T) {
	path := write(t, "gateway.toml", minimal)
	var out, stderr bytes.Buffer
	status := execute([]string{"run", "-c", path}, cli{
		out: &out, err: &stderr,
		start: func(_ context.Context, cfg *config.Config, _ *slog.Logger) (runner, error) {
			return nil, config.Errors{cfg.At("it is taken", "server", "listen")}
		},
	})
	if want := path + ":1: server.listen: it is taken\n"; status != exitFailure || stderr.String() != want || out.Len() != 0 {
		t.Errorf("status %d, stdout %q, stderr %q", status, out.String(), stderr.String())
	}
}

func TestWhatToTry(t *testing.T) {
	f := func(src string, admin net.Addr, has, hasNot string) {
		t.Helper()
		cfg, err := config.Parse("gateway.toml", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		if got := whatToTry(cfg, address("127.0.0.1:8080"), admin); !strings.Contains(got, has) || strings.Contains(got, hasNot) {
			t.Errorf("%s:\n%s", src, got)
		}
	}
	admin := address("127.0.0.1:9090")
	f(minimal, admin, "curl -N http://127.0.0.1:8080/events", "https")
	f(minimal, admin, "curl http://127.0.0.1:9090/connections", "https")
	f("[server]\ntls_cert = \"c\"\ntls_key = \"k\"\n"+minimal, admin, "curl -kN https://127.0.0.1:8080/events", "http://127.0.0.1:8080")
	f(minimal, nil, "open http://127.0.0.1:8080/ in", "9090")
	f(strings.Replace(minimal, "demo:", "http://127.0.0.1:9000", 1), admin, "listening on", "Try:")
}
