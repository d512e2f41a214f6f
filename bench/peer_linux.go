package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

//go:embed peers
var templates embed.FS

// peer is a proxy that can be measured.
type peer struct {
	name    string
	bin     string         // looked up in PATH when it has no slash; "": no proxy at all
	debian  string         // package that has it
	config  string         // template in peers/
	args    []string       // %c is the configuration's path, %d its directory
	version []string       // arguments that print the version
	reload  syscall.Signal // has it take up its configuration anew; 0: it is asked through its admin listener
	weir    weirFiles
	stock   bool

	failedStarts int
}

// weirFiles is what Weir is started from.
type weirFiles struct {
	bin, module, engine string
	profiles            string // directory; "": none are taken
}

func choosePeers(only string, w weirFiles) ([]*peer, error) {
	known := map[string]*peer{
		"none":    {},
		"nginx":   {bin: "nginx", debian: "nginx", config: "nginx.conf", args: []string{"-p", "%d", "-e", "stderr", "-c", "%c"}, version: []string{"-v"}, reload: syscall.SIGHUP},
		"haproxy": {bin: "haproxy", debian: "haproxy", config: "haproxy.cfg", args: []string{"-W", "-db", "-f", "%c"}, version: []string{"-v"}, reload: syscall.SIGUSR2},
		"weir":    {bin: w.bin, config: "weir.toml", args: []string{"run", "-c", "%c"}, version: []string{"version"}, weir: w},
	}
	var peers []*peer
	for name := range strings.SplitSeq(only, ",") {
		p := known[name]
		if p == nil || p.name != "" {
			return nil, fmt.Errorf("-only %q: a peer is one of none, nginx, haproxy and weir, each at most once", only)
		}
		p.name = name
		peers = append(peers, p)
	}
	return peers, nil
}

// ensure finds the peer's binary, or installs its package.
func (p *peer) ensure(ctx context.Context, install bool) error {
	if p.bin == "" {
		return nil
	}
	// Debian keeps them where only root's PATH looks.
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if !strings.Contains(os.Getenv("PATH"), dir) {
			os.Setenv("PATH", os.Getenv("PATH")+":"+dir)
		}
	}
	path, err := exec.LookPath(p.bin)
	if err != nil && p.debian == "" {
		return fmt.Errorf("%s is not there: run make build first, or give -only nginx,haproxy", p.bin)
	}
	if err != nil {
		apt, aptErr := exec.LookPath("apt-get")
		if !install || os.Geteuid() != 0 || aptErr != nil {
			return fmt.Errorf("%s is not installed: apt-get install %s (as root), or leave it out with -only", p.name, p.debian)
		}
		fmt.Fprintln(os.Stderr, "installing", p.debian)
		for _, args := range [][]string{{"update", "-q"}, {"install", "-y", "-q", "--no-install-recommends", p.debian}} {
			cmd := exec.CommandContext(ctx, apt, args...)
			// Nothing is to be started as a service.
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, tail(out))
			}
		}
		if path, err = exec.LookPath(p.bin); err != nil {
			return err
		}
	}
	if p.bin, err = filepath.Abs(path); err != nil || p.weir.module == "" {
		return err
	}
	if p.weir.module, err = filepath.Abs(p.weir.module); err != nil {
		return err
	}
	if _, err := os.Stat(p.weir.module); err != nil {
		return fmt.Errorf("the policy is not there: run make build first: %w", err)
	}
	return nil
}
