package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/proxy/config"
	"weir/proxy/gateway"
	"weir/proxy/nettest"
)

// The real gateway starts, serves and reloads under the command, and ends with
// status 0.
func TestRunServes(t *testing.T) {
	path := write(t, "gateway.toml", "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"+minimal)
	listening := make(chan runner, 1)
	signals := make(chan os.Signal, 1)
	result := make(chan error, 1)
	c := cli{
		out: io.Discard, err: io.Discard, config: path,
		start: func(ctx context.Context, cfg *config.Config, log *slog.Logger) (runner, error) {
			g, err := startGateway("test")(ctx, cfg, log)
			listening <- g
			return g, err
		},
	}
	go func() { result <- c.run(t.Context(), slog.New(slog.DiscardHandler), signals) }()
	g := <-listening
	resp, err := http.Post("http://"+g.Addr().String()+"/echo", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "hello" {
		t.Errorf("status %d, %q, %v", resp.StatusCode, body, err)
	}
	reply, err := postReload(t.Context(), localURL(g.AdminAddr().String()), "")
	if err != nil || !strings.HasPrefix(reply, "nothing to reload, ") {
		t.Errorf("%q, %v", reply, err)
	}
	http.DefaultClient.CloseIdleConnections()
	signals <- syscall.SIGTERM
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestRunSaysThatAnAddressIsTaken(t *testing.T) {
	l := nettest.Listen(t)
	path := write(t, "gateway.toml", fmt.Sprintf("[server]\nlisten = %q\n%s", l.Addr(), minimal))
	cfg, err := config.Files{}.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := startGateway("test")(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if _, ok := errors.AsType[config.Errors](err); !ok || g != nil || !strings.Contains(err.Error(), "server.listen") {
		t.Errorf("got %v, %v", g, err)
	}
}

// run refuses what validate refuses, in the same words.
func TestRunRefusesAPolicyAsValidateDoes(t *testing.T) {
	path := write(t, "gateway.toml", minimal+"[policy.a]\nmodule = \"future.wasm\"\n[policy.b]\nmodule = \"future.wasm\"\n[policy.c]\nmodule = \"empty.wasm\"\n")
	for name, module := range map[string][]byte{"future.wasm": futureModule, "empty.wasm": nil} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), module, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Files{}.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	validated := gateway.Check(t.Context(), cfg)
	_, ran := startGateway("test")(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if validated == nil || ran == nil || validated.Error() != ran.Error() || strings.Count(ran.Error(), "\n") != 2 {
		t.Errorf("validate:\n%v\nrun:\n%v", validated, ran)
	}
}
