package sock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"
	"testing"

	"weir/proxy/nettest"
)

// overheard keeps what is read.
type overheard struct {
	net.Conn
	b []byte
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.b = append(o.b, p[:n]...)
	return n, err
}

// A byte is what is asked for to find out; with a warning behind it, which is passed
// over, there may be nothing more.
func TestAByteAndAWarningAreNotNothing(t *testing.T) {
	own, _ := nettest.Certificate()
	x, y := nettest.Pair(t)
	wire := &overheard{Conn: x}
	var keys bytes.Buffer
	client := tls.Client(wire, &tls.Config{
		InsecureSkipVerify: true, KeyLogWriter: &keys, MaxVersion: tls.VersionTLS12, //nolint:gosec // a test's own
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	})
	server := Server(y, &tls.Config{Certificates: own})
	shake(t, client, server)
	line := strings.Fields(keys.String()) // CLIENT_RANDOM, it, the master secret
	random, _ := hex.DecodeString(line[1])
	master, _ := hex.DecodeString(line[2])
	prf := func(p []byte) []byte { // RFC 5246 §5
		h := hmac.New(sha256.New, master)
		h.Write(p)
		return h.Sum(nil)
	}
	seed := append(append([]byte("key expansion"), wire.b[11:43]...), random...)
	a1 := prf(seed)
	a2 := prf(a1)
	block := append(prf(append(a1, seed...)), prf(append(a2, seed...))...)
	b, _ := aes.NewCipher(block[:16])
	aead, _ := cipher.NewGCM(b)
	var sent []byte
	seq := uint64(1) // behind Finished
	record := func(kind byte, p string) {
		n := binary.BigEndian.AppendUint64(nil, seq)
		seq++
		sent = append(sent, kind, 3, 3, 0, byte(8+len(p)+aead.Overhead()))
		sent = aead.Seal(append(sent, n...), append(block[32:36:36], n...), []byte(p), append(n, kind, 3, 3, 0, byte(len(p))))
	}
	record(23, "answer")
	record(23, "x")
	record(21, "\x01\x5a") // user_canceled (RFC 5246 §7.2)
	_, _ = x.Write(sent)
	p := make([]byte, 100)
	if n, err := server.Read(p[:6]); string(p[:n]) != "answer" || err != nil {
		t.Fatalf("%q, %v", p[:n], err)
	}
	if server.Exhausted() {
		t.Error("the byte is not seen")
	}
}
