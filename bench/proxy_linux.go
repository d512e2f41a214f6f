package main

import (
	"bytes"
	"context"
	"crypto/tls"
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
