//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// settings are what a test says of a gateway.toml; the rest is as it ships, but
// for a short drain.
type settings struct {
	server, admin, limits, route, upstream string // further lines of these tables
	urls                                   string // of the upstream, comma-separated; default demo:
	policy                                 string // lines of [policy.p.config]
	module                                 string // default: the standard policy's
	native                                 bool   // no policy
	rest                                   string // further tables
	env                                    []string
	args                                   []string // of weir run
	files                                  int      // that may be open; default: as many as here
}

// toml is the file that s describes.
func (s settings) toml(listen, admin string) string {
	var b strings.Builder
	table := func(name, lines, more string) {
		fmt.Fprintf(&b, "[%s]\n%s\n%s\n\n", name, lines, more)
	}
	drain := `drain_timeout = "10s"`
	if strings.Contains(s.server, "drain_timeout") {
		drain = ""
	}
	table("server", "listen = "+strconv.Quote(listen)+"\n"+drain, s.server)
	table("admin", "listen = "+strconv.Quote(admin), s.admin)
	table("limits", "", s.limits)
	route := "name = \"r\"\nupstream = \"u\""
	if !s.native {
		route += "\npolicy = \"p\""
	}
	table("[route]", route, s.route)
	urls := s.urls
	if urls == "" {
		urls = "demo:"
	}
	table("upstream.u", `urls = ["`+strings.ReplaceAll(urls, ",", `", "`)+`"]`, s.upstream)
	if !s.native {
		module := s.module
		if module == "" {
			module = standard
		}
		table("policy.p", "module = "+strconv.Quote(module), "")
		table("policy.p.config", "", s.policy)
	}
	b.WriteString(s.rest)
	return b.String()
}

// write puts a file into a directory of the test's own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// replace puts content in place of a file in one step, as deployments do.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// lastPort counts through ports that the kernel gives to nobody by itself, so
// that a restarted Weir finds its own free.
var lastPort atomic.Int32

func init() { lastPort.Store(int32(12000 + os.Getpid()%10000)) }

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", lastPort.Add(1))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}
