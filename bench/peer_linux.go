package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
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

var errStart = errors.New("it does not answer after its start")

// proxy is a peer that runs.
type proxy struct {
	addr, admin     string
	tls             string        // file of its certificate and key; "": none
	original        string        // the policy's module, and
	module          string        // the copy that may be replaced; "": none
	builds          []string      // files to put in its place
	ready           time.Duration // from its start to its first answer
	pids            []int         // it and its workers
	cmd             *exec.Cmd
	signal          syscall.Signal // that reloads it; 0: none does
	dir             string
	pprof, profiles string        // host:port, and where its profiles go; "" without
	exited          chan struct{} // closed once it was waited for
}

// start runs the peer in front of an upstream port and waits until it answers.
func (p *peer) start(ctx context.Context, c cell, upstream int) (_ *proxy, err error) {
	if p.bin == "" {
		return &proxy{addr: fmt.Sprintf("127.0.0.1:%d", upstream)}, nil
	}
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return nil, err
	}
	x := &proxy{dir: dir, signal: p.reload, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			x.stop()
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	if c.tls {
		x.tls = filepath.Join(dir, "tls.pem")
		if err := writeCertificate(x.tls); err != nil {
			return nil, err
		}
	}
	module := p.weir.module
	if c.reloads && module != "" { // one that may be replaced
		x.original, x.module = module, filepath.Join(dir, "policy.wasm")
		module = x.module
		if err := x.writeBuild(x.module, 0); err != nil {
			return nil, err
		}
	}
	x.addr, x.admin = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	conf := filepath.Join(dir, p.config)
	if err := p.render(conf, settings{
		Dir: dir, Port: ports[0], Admin: ports[1], Upstream: upstream, Root: os.Geteuid() == 0, TLS: x.tls,
		Module: module, Engine: p.weir.engine, Routes: make([]struct{}, c.routes), Stalled: c.stalled > 0, Stock: p.stock, Kept: c.kept(),
	}); err != nil {
		return nil, err
	}
	args := make([]string, len(p.args))
	for i, a := range p.args {
		args[i] = strings.NewReplacer("%c", conf, "%d", dir).Replace(a)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if p.weir.profiles != "" {
		x.pprof, x.profiles = fmt.Sprintf("127.0.0.1:%d", ports[2]), p.weir.profiles
		cmd.Env = append(os.Environ(), "WEIR_BENCH_PPROF="+x.pprof)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	x.cmd = cmd
	go func() { _ = cmd.Wait(); close(x.exited) }() // ends with the process, which stop joins
	if err := x.answers(ctx, began.Add(readyWithin)); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", errStart, err, x.log())
	}
	x.ready = time.Since(began)
	x.pids = family(cmd.Process.Pid)
	return x, nil
}

// settings are what the templates in peers/ are filled with.
type settings struct {
	Dir                   string
	Port, Admin, Upstream int
	Root                  bool   // the benchmark runs as root
	TLS                   string // file of certificate and key; "": none
	Module, Engine        string // of Weir's policies; "": none
	Routes                []struct{}
	Stalled               bool // clients will stall: Weir's limits are as they come
	Stock                 bool // nginx' and HAProxy's buffers are as they come
	Kept                  int  // idle connections to the upstream that they keep
}

// readyWithin is the time a peer has to answer: with a hundred policies that
// may be long.
const readyWithin = 30 * time.Second

func (p *peer) render(path string, values settings) error {
	t, err := template.New(p.config).ParseFS(templates, "peers/"+p.config)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// answers waits until a request comes through.
func (x *proxy) answers(ctx context.Context, deadline time.Time) error {
	for {
		err := ask(x.addr, x.tls != "")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-x.exited:
			return errors.New("it ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func ask(addr string, secure bool) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if secure {
		c = tls.Client(c, clientTLS(nil))
	}
	if _, err := fmt.Fprint(c, "GET /get?size=128 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(b[:n], []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("it answers %.60q", b[:n])
	}
	return nil
}

// stop asks the proxy to end, makes it end, and removes its directory.
func (x *proxy) stop() {
	if x.cmd != nil {
		_ = x.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-x.exited:
		case <-time.After(3 * time.Second):
		}
		_ = syscall.Kill(-x.cmd.Process.Pid, syscall.SIGKILL) // the group: workers too
		<-x.exited
	}
	if x.dir != "" {
		os.RemoveAll(x.dir)
	}
}

// log is the end of what the proxy said.
func (x *proxy) log() string {
	if x.dir == "" {
		return ""
	}
	b, _ := os.ReadFile(filepath.Join(x.dir, "log"))
	return string(tail(b))
}

func tail(b []byte) []byte {
	return b[max(0, len(b)-2000):]
}

// freePorts finds ports that nothing listens on at the moment.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
