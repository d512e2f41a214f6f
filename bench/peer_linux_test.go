package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

func TestChoosePeers(t *testing.T) {
	for only, want := range map[string]int{"nginx,haproxy,weir": 3, "none": 1, "weir,nginx": 2, "nginx,nginx": 0, "apache": 0, "": 0} {
		if peers, err := choosePeers(only, weirFiles{}); len(peers) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d peers, %v; want %d", only, len(peers), err, want)
		}
	}
}

func TestEveryConfigurationRenders(t *testing.T) {
	peers, err := choosePeers("nginx,haproxy,weir", weirFiles{module: `C:\odd "path"`, engine: "interpreter"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		path := filepath.Join(t.TempDir(), p.config)
		err := p.render(path, settings{
			Dir: "/tmp/x", Port: 1001, Admin: 1002, Upstream: 1003, Root: true, TLS: "/tmp/x/tls.pem",
			Module: p.weir.module, Engine: p.weir.engine, Routes: make([]struct{}, 3), Kept: 64,
		})
		if err != nil {
			t.Fatal(p.name, err)
		}
		text, _ := os.ReadFile(path)
		if !bytes.Contains(text, []byte("127.0.0.1:1001")) || !bytes.Contains(text, []byte("127.0.0.1:1003")) {
			t.Errorf("%s: a port is missing in\n%s", p.name, text)
		}
		if p.name == "weir" {
			var v struct {
				Policy map[string]struct{ Module string }
			}
			if _, err := toml.Decode(string(text), &v); err != nil || v.Policy["standard"].Module != p.weir.module {
				t.Errorf("%v: %+v", err, v)
			}
		}
	}
}

func TestAPeerThatEndsSaysWhy(t *testing.T) {
	p := &peer{name: "broken", bin: "/bin/sh", config: "haproxy.cfg", args: []string{"-c", "echo the reason >&2; exit 3"}}
	x, err := p.start(t.Context(), cell{}, 1)
	if err == nil {
		x.stop()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "the reason") {
		t.Error(err)
	}
}

func TestMissingPeersAreNamed(t *testing.T) {
	for _, p := range []*peer{
		{name: "absent", bin: "absent-proxy", debian: "absent-package"},
		{name: "weir", bin: "bin/absent-weir"},
	} {
		if err := p.ensure(t.Context(), false); err == nil || !strings.Contains(err.Error(), p.debian) {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	pids := family(os.Getpid())
	if pids[0] != os.Getpid() {
		t.Errorf("%v", pids)
	}
	pids = pids[:1]
	if n, err := resident(pids); err != nil || n < 1<<20 {
		t.Errorf("%d bytes resident, %v", n, err)
	}
	before, err := cpuTime(pids)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; { // until a clock tick of work was counted
		after, err := cpuTime(pids)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%v of CPU, before %v, %v", after, before, err)
		}
		if after > before {
			return
		}
	}
}
