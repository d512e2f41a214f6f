//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// selfSigned writes a certificate for 127.0.0.1 with the given name and its
// key, and returns both and where they are.
func selfSigned(t *testing.T, name string) (certPEM, keyPEM []byte, cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return certPEM, keyPEM, write(t, "cert.pem", string(certPEM)), write(t, "key.pem", string(keyPEM))
}

func TestTLSOnTheClientLeg(t *testing.T) {
	t.Parallel()
	_, _, cert, key := selfSigned(t, "weir")
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, server: fmt.Sprintf("tls_cert = %q\ntls_key = %q", cert, key), limits: `max_message_size = "8MiB"`})
	c := n.dial("wss://"+g.addr+"/", nil)
	if got := s.accept().opened.header("x-forwarded-proto"); got != "https" {
		t.Errorf("upstream saw X-Forwarded-Proto %q", got)
	}
	for _, size := range []int{10, 20_000, 5 << 20} {
		c.sendSized("", size, "")
		if e := c.next("message"); e.Size != size {
			t.Errorf("%d bytes came back as %d", size, e.Size)
		}
	}
	c.sendSized("", 9<<20, "")
	if e := decodeError(t, c.message()); e.Error.Code != "payload_too_large" {
		t.Errorf("%+v", e)
	}
	c.do("close", args{"code": 4001, "text": "bye"})
	if code, reason := c.closed(); code != 4001 || reason != "bye" {
		t.Errorf("closed with %d %q", code, reason)
	}
	p := n.new()
	p.do("http", args{"url": "https://" + g.addr + "/x"})
	if e := p.next("response"); e.Status != 200 || e.header("x-backend") != "node" {
		t.Errorf("%v", e)
	}
	// Plain HTTP to it goes nowhere, and hurts nobody.
	plain := dialRaw(t, g.addr)
	plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, _ = plain.br.ReadByte()
	n.dial("wss://"+g.addr+"/", nil)
}

// Critical messages toward a TLS client that does not read wait and all arrive.
func TestBackpressureOverTLS(t *testing.T) {
	t.Parallel()
	_, _, cert, key := selfSigned(t, "weir")
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{
		urls: s.url, server: fmt.Sprintf("tls_cert = %q\ntls_key = %q", cert, key),
		limits: "max_buffered_bytes = \"256KiB\"\nslow_consumer_grace = \"10m\"", policy: "droppable = [\"presence\"]\ngap_notice = true",
	})
	client := n.dial("wss://"+g.addr+"/", nil)
	up := s.accept()
	client.pause()
	const count = 20_000
	up.do("flood", args{"count": count, "size": 1000, "from": 1, "types": []string{"presence", "message"}})
	eventually(t, "messages to be shed", func() bool {
		ts := g.tunnels()
		return len(ts) == 1 && ts[0].Shed.ToClient > 0
	})
	client.do("resume", nil)
	up.send(`{"type":"last","id":20001}`)
	for next := 1; next <= count+1; {
		m := decodeNumbered(t, client.message())
		switch {
		case m.Type == "gap":
			next += m.Dropped
			continue
		case m.ID != next:
			t.Fatalf("%+v where %d was due", m, next)
		}
		next++
	}
}

func TestTLSUpstreams(t *testing.T) {
	t.Parallel()
	_, _, cert, key := selfSigned(t, "backend")
	n := startNode(t)
	s := n.serve(args{"echo": true, "key": key, "cert": cert})
	trusting := start(t, settings{urls: s.url, env: []string{"SSL_CERT_FILE=" + cert}})
	c := n.dial(trusting.ws("/"), nil)
	for _, size := range []int{10, 20_000, 5 << 20} {
		c.sendSized("", size, "")
		if e := c.next("message"); e.Size != size {
			t.Errorf("%d bytes came back as %d", size, e.Size)
		}
	}
	c.do("close", args{"code": 4001, "text": "bye"})
	if code, reason := c.closed(); code != 4001 || reason != "bye" {
		t.Errorf("closed with %d %q", code, reason)
	}
	if a := trusting.get("/x"); a.StatusCode != 200 || a.Header.Get("X-Backend") != "node" {
		t.Errorf("%s, %v", a.Status, a.Header)
	}
	// A certificate that nobody vouches for is not taken.
	wary := start(t, settings{urls: s.url})
	if p := decodeProblem(t, n.refused(wary.ws("/"), nil, 502).Text); p.Code != "upstream_unavailable" {
		t.Errorf("%+v", p)
	}
	if a := wary.get("/x"); a.StatusCode != 502 {
		t.Errorf("%s", a.Status)
	}
	wary.logs.wait("why", "level=WARN", "code=upstream_unavailable")
	if lines := wary.logs.all("level=WARN", "code=upstream_unavailable"); !strings.Contains(fmt.Sprint(lines[0]["error"]), "certificate") {
		t.Errorf("logged %v", lines[0])
	}
}

// The system's roots are read once, and not when a connection wants the last descriptor:
// an upstream would be distrusted from then on.
func TestRootsAreReadBeforeTheyAreNeeded(t *testing.T) {
	t.Parallel()
	_, _, cert, key := selfSigned(t, "backend")
	s := startNode(t).serve(args{"key": key, "cert": cert})
	g := start(t, settings{native: true, urls: s.url, env: []string{"SSL_CERT_FILE=" + cert, "SSL_CERT_DIR=" + t.TempDir()}})
	c := g.client()
	g.exhaustFiles(1) // for the upstream
	get := func() bool {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		return c.response("GET").StatusCode == 200
	}
	eventually(t, "the last descriptor, should Weir be reading its configuration", get)
	g.limitFiles(1024)
	if !get() {
		t.Error("the upstream is distrusted")
	}
}

// A renewed certificate is served to the connections that follow.
func TestARenewedCertificate(t *testing.T) {
	t.Parallel()
	_, _, cert, key := selfSigned(t, "before")
	g := start(t, settings{server: fmt.Sprintf("tls_cert = %q\ntls_key = %q", cert, key)})
	served := func() string {
		c, err := tls.Dial("tcp", g.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "before" {
		t.Fatal(got)
	}
	certPEM, keyPEM, _, _ := selfSigned(t, "after")
	replace(t, key, keyPEM)
	replace(t, cert, certPEM)
	eventually(t, "the new certificate", func() bool { return served() == "after" })
}
