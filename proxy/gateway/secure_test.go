package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/nettest"
)

// startTLS runs a gateway with a certificate on its client leg, which it takes
// up by a reload, and the limits besides.
func startTLS(t *testing.T, limits ...string) *rig {
	t.Helper()
	cert, _ := nettest.Certificate()
	key, err := x509.MarshalPKCS8PrivateKey(cert[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert[0].Certificate[0]},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, plainRoute)
	r.reload("[server]", fmt.Sprintf("[server]\ntls_cert = %q\ntls_key = %q", dir+"/cert.pem", dir+"/key.pem"), plainRoute+"[limits]\n"+strings.Join(limits, "\n"))
	return r
}

// Who has a session resumes it after a reload that leaves the certificate as it is.
func TestSessionsSurviveAReload(t *testing.T) {
	r := startTLS(t)
	sessions := tls.NewLRUClientSessionCache(1)
	resumed := func() bool {
		c, err := tls.Dial("tcp", r.g.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: "weir.test", ClientSessionCache: sessions})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil { // the ticket comes before the answer
			t.Fatal(err)
		}
		return c.ConnectionState().DidResume
	}
	if resumed() || !resumed() {
		t.Fatal("sessions are not resumed at all")
	}
	src, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	changed := append(src, "\nmax_inbox = 7\n"...) // behind [limits]
	if err := os.WriteFile(r.path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	before := r.g.current.Load()
	if err := r.g.Reload(); err != nil || r.g.current.Load() == before {
		t.Fatalf("nothing was reloaded: %v", err)
	}
	if !resumed() {
		t.Error("a reload ended the session")
	}
}

// What is spoken is what ALPN offers: who asks for another protocol alone is refused.
func TestProtocolsOfALPN(t *testing.T) {
	r := startTLS(t)
	for offered, want := range map[string]string{
		"": "", "http/1.1": "http/1.1", "http/1.0": "http/1.0", "h2,http/1.1": "http/1.1", "http/1.0,http/1.1": "http/1.1", "h2": "refused",
	} {
		conf := &tls.Config{InsecureSkipVerify: true}
		if offered != "" {
			conf.NextProtos = strings.Split(offered, ",")
		}
		got := "refused"
		if c, err := tls.Dial("tcp", r.g.Addr().String(), conf); err == nil {
			got = c.ConnectionState().NegotiatedProtocol
			_ = c.Close()
		}
		if got != want {
			t.Errorf("offered %q: %q, want %q", offered, got, want)
		}
	}
}

// A certificate that clients will refuse is served, and told.
func TestACertificateThatIsNotValidNow(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	gen := &generation{cfg: config.Default(), tls: s.TLS}
	from, to := s.Certificate().NotBefore, s.Certificate().NotAfter
	for now, want := range map[time.Time]bool{from.Add(-time.Second): true, from: false, to: false, to.Add(time.Second): true} {
		var out strings.Builder
		gen.warnOfExpiry(slog.New(slog.NewTextHandler(&out, nil)), now)
		if got := strings.Contains(out.String(), "level=WARN"); got != want || want && !strings.Contains(out.String(), "not_after="+to.UTC().Format(time.RFC3339)[:10]) {
			t.Errorf("at %v: %q", now, out.String())
		}
	}
}

func (r *rig) faults(code hostabi.FaultCode) float64 {
	return testutil.ToFloat64(r.g.metrics.Fault(code))
}

func TestPlainHTTPToATLSListener(t *testing.T) {
	r := startTLS(t)
	for _, size := range []int{0, 8 << 10} { // the second leaves bytes unread
		from := time.Now().Truncate(time.Second)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", strings.Repeat("x", size))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 400 || err != nil || !strings.Contains(string(body), "https:") || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d bytes: %d, %v, %q, %v", size, res.StatusCode, res.Header, body, err)
		}
		var problem struct {
			Trace string `json:"trace_id"`
		}
		id := res.Header.Get("X-Request-Id")
		if err := json.Unmarshal(body, &problem); err != nil || len(problem.Trace) != 32 || len(id) != 32 {
			t.Errorf("%d bytes: trace %q, request %q, %v", size, problem.Trace, id, err)
		}
		if line := `"trace_id":"` + problem.Trace + `","request_id":"` + id + `"`; !strings.Contains(r.logs.String(), line) {
			t.Errorf("no %s in %s", line, r.logs)
		}
		if date, err := http.ParseTime(res.Header.Get("Date")); err != nil || date.Before(from) || date.After(time.Now()) {
			t.Errorf("%d bytes: Date is %q", size, res.Header.Get("Date"))
		}
	}
	if n := r.faults(hostabi.ProtocolError); n != 2 {
		t.Errorf("%v faults", n)
	}
}

func TestFailedHandshakesAreTold(t *testing.T) {
	r := startTLS(t)
	addr := r.g.Addr().String()
	lines := func() int { return strings.Count(r.logs.String(), "tls handshake failed") }

	if c, err := tls.Dial("tcp", addr, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Fatal("TLS 1.1 is spoken")
	}
	until(t, "a version that is not spoken is told", func() bool { return lines() == 1 && strings.Contains(r.logs.String(), "unsupported versions") })
	if n := r.faults(hostabi.ProtocolError); n != 1 {
		t.Errorf("%v faults", n)
	}
	// The alert of a client that refuses the certificate (RFC 8446 §6). A real one
	// may reset the connection behind it, before it is read.
	refusing := nettest.Dial(t, addr)
	if _, err := refusing.Write([]byte("\x15\x03\x03\x00\x02\x02\x2a")); err != nil {
		t.Fatal(err)
	}
	until(t, "a certificate that is refused is told", func() bool {
		return lines() == 2 && strings.Contains(r.logs.String(), "remote error: tls: bad certificate")
	})

	// One that leaves and one that begins and leaves, as probes do.
	for _, says := range []string{"", "\x16\x03\x01\x02\x00"} {
		c := nettest.Dial(t, addr)
		_, _ = c.Write([]byte(says))
		c.Close()
	}
	// Who comes behind them is served, and everybody has been seen then.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Get("https://" + addr + "/status/204")
	if err != nil || res.StatusCode != 204 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	until(t, "all are gone", func() bool { return testutil.ToFloat64(r.g.metrics.Connections(metrics.StateHTTP)) == 0 })
	if lines() != 2 || r.faults(hostabi.ProtocolError) != 1 {
		t.Errorf("%d lines", lines())
	}
}

// A handshake that stops is too slow, like a head that does; one that was never
// begun is no more than a request that never came.
func TestHandshakesThatStopAreTold(t *testing.T) {
	r := startTLS(t, `handshake_timeout = "50ms"`)
	stop := func(says string) {
		c := nettest.Dial(t, r.g.Addr().String())
		defer c.Close()
		if _, err := c.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%q was answered %q, %v", says, b, err)
		}
	}
	stop("")
	if n := r.faults(hostabi.ProtocolError); n != 0 {
		t.Errorf("%v faults, nothing was said", n)
	}
	for i, says := range []string{"\x16\x03", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		until(t, "it is told", func() bool {
			stop(says) // on a busy machine it may be over before it is read
			return r.faults(hostabi.ProtocolError) == float64(i+1)
		})
	}
	if n := strings.Count(r.logs.String(), "no whole handshake in 50ms (handshake_timeout)"); n != 2 {
		t.Errorf("%d lines: %s", n, r.logs)
	}
}

// A handshake that a drain ends is nobody's fault.
func TestHandshakesThatADrainEndsAreNotTold(t *testing.T) {
	r := startTLS(t)
	c, err := tls.Dial("tcp", r.g.Addr().String(), &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(tls.ConnectionState) error {
			r.stop() // halfway
			return io.ErrUnexpectedEOF
		},
	})
	if err == nil {
		c.Close()
		t.Fatal("not halfway")
	}
	if n := r.faults(hostabi.ProtocolError); n != 0 || strings.Contains(r.logs.String(), "tls handshake failed") {
		t.Errorf("%v faults: %s", n, r.logs)
	}
}
