//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// soakPolicy is the module of a soak, in a file of its own that is replaced
// while Weir runs.
type soakPolicy struct {
	path          string
	good, hostile []byte
	versions      int // written so far, each of other bytes
}

// put replaces the module, by a hostile one or a good one.
func (p *soakPolicy) put(c *chaos, hostile bool) {
	wasm := p.good
	if hostile {
		wasm = p.hostile
	}
	p.versions++
	note := fmt.Sprintf("\x04soak%d", p.versions) // a custom section, which changes nothing
	replace(c.t, p.path, append(bytes.Clone(wasm), append([]byte{0, byte(len(note))}, note...)...))
}

// prepare makes what settings name.
func (c *chaos) prepare(encrypted bool) {
	c.t.Helper()
	good, err := os.ReadFile(standard)
	if err != nil {
		c.t.Fatal(err)
	}
	c.policy = soakPolicy{path: filepath.Join(c.t.TempDir(), "policy.wasm"), good: good, hostile: built(c.t, "hostile", "")}
	c.policy.put(c, false)
	if encrypted {
		_, _, cert, key := selfSigned(c.t, "weir")
		c.server = fmt.Sprintf("tls_cert = %q\ntls_key = %q", cert, key)
		c.tls = &tls.Config{InsecureSkipVerify: true} // it is ours
	}
}

// settings is a configuration of the soak; what differs changes nothing that a
// checker could mistake.
func (c *chaos) settings(r *rand.Rand) settings {
	var urls []string
	for _, u := range c.ups {
		urls = append(urls, "http://"+u.addr)
	}
	conflate := `conflate = { cursor = "/name" }`
	if r.IntN(4) == 0 {
		conflate = ""
	}
	memory, rate := "", ""
	if r.IntN(2) == 0 { // less than all tunnels may queue
		memory = fmt.Sprintf("max_memory = \"%dKiB\"", 256<<r.IntN(5))
	}
	if r.IntN(3) == 0 { // about what clients send
		rate = fmt.Sprintf("message_rate = %d\nmessage_burst = %d", 200+r.IntN(1500), 5<<r.IntN(8))
	}
	return settings{
		urls: strings.Join(urls, ","), module: c.policy.path, server: c.server,
		upstream: `response_timeout = "5s"` + "\n" + `connect_timeout = "2s"`,
		limits: fmt.Sprintf(`max_message_size = %d
max_buffered_bytes = "%dKiB"
max_inbox = %d
max_pending_bytes = "%dKiB"
slow_consumer_grace = "%ds"
ping_interval = "4s"
%s
%s`, soakMaxMessage, 32+r.IntN(200), 4+r.IntN(60), 16+r.IntN(100), 1+r.IntN(4), memory, rate),
		policy: fmt.Sprintf(`droppable = ["presence"%s]
droppable_unless = "/seq"
gap_notice = true
%s
priority = { typing = %d }
error_to = { payload_too_large = "%s" }
error_format = { websocket = '{"type":"error","error":{"code":{{code}}{{?count}}{{?limit}}{{?actual}}{{?field:/id}}{{?field:/from}}}}' }`,
			[]string{"", `, "typing"`}[r.IntN(2)], conflate, r.IntN(3), []string{"sender", "receiver"}[r.IntN(2)]),
	}
}

// disturb does to Weir and its upstreams what can happen to them, for the time
// of the round. It ends with a good policy.
func (c *chaos) disturb(r *rand.Rand) {
	for over := time.Now().Add(*soakRound); time.Now().Before(over); {
		<-time.After(time.Duration(100+r.IntN(700)) * time.Millisecond)
		u := c.ups[r.IntN(len(c.ups))]
		wait := time.After(time.Duration(r.IntN(1500)) * time.Millisecond)
		switch r.IntN(12) {
		case 0:
			u.kill()
			<-wait
			u.start(c.t, c.seed, c.noteUpstream)
		case 1, 2:
			_ = u.cmd.Process.Signal(syscall.SIGSTOP)
			<-wait
			_ = u.cmd.Process.Signal(syscall.SIGCONT)
		case 3:
			c.g.configure(c.settings(r))
			c.reload(200)
		case 4: // by its command
			c.g.configure(c.settings(r))
			c.reloadCommand()
		case 5: // by saving the file alone
			c.g.configure(c.settings(r))
			<-wait
		case 6:
			c.g.configure(c.settings(r))
			c.g.signal(syscall.SIGHUP)
		case 7:
			bad := c.g.settings
			bad.policy += "\n" + []string{"unknown = 1", `event_key = "type"`, "= broken"}[r.IntN(3)]
			if r.IntN(3) == 0 {
				bad.module += ".none"
			}
			replace(c.t, c.g.config, []byte(bad.toml(c.g.addr, c.g.admin)))
			c.reload(422)
			c.g.configure(c.g.settings)
			c.reload(200)
		case 8, 9: // by saving the module alone
			c.policy.put(c, true)
			<-wait
			<-time.After(300 * time.Millisecond)
			c.policy.put(c, false)
		case 10:
			c.policy.put(c, false)
		case 11:
			if all := c.g.tunnels(); len(all) > 0 {
				c.g.ask("DELETE", "/connections/"+all[r.IntN(len(all))].ID)
			}
		}
	}
}

// reload asks for a reload that must end so. A machine that is too busy for a
// policy's first half second is asked again.
func (c *chaos) reload(want int) {
	for range 5 {
		status, body := c.g.ask("POST", "/reload")
		if status == want {
			return
		}
		if !busy(string(body)) {
			c.wrong("a reload gives %d, not %d: %s", status, want, body)
			return
		}
	}
}

func (c *chaos) reloadCommand() {
	for range 5 {
		status, _, stderr := command(c.t, "reload", "-c", c.g.config)
		if status == 0 {
			return
		}
		if !busy(stderr) {
			c.wrong("weir reload ends with %d: %s", status, stderr)
			return
		}
	}
}

// dial opens a connection to Weir.
func (c *chaos) dial() (net.Conn, error) {
	conn, err := (&net.Dialer{Control: smallBuffers}).Dial("tcp", c.g.addr)
	if err != nil || c.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, c.tls)
	ctx, cancel := context.WithTimeout(context.Background(), soakPatience)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// url is where HTTP clients go.
func (c *chaos) url(path string) string {
	if c.tls != nil {
		return "https://" + c.g.addr + path
	}
	return "http://" + c.g.addr + path
}

// answers reports whether an upstream can be reached.
func (c *chaos) answers() bool {
	client := &http.Client{Timeout: soakPatience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.tls}}
	resp, err := client.Get(c.url("/bytes?n=2"))
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

// underlying is the TCP connection below c.
func underlying(c net.Conn) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}
