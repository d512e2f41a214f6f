package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The generator's TLS: crypto/tls shakes hands, then the loop seals and opens
// records by itself with the keys that were agreed, so that TLS costs it
// AES-GCM and one copy, and no goroutine.

const (
	suite      = tls.TLS_AES_128_GCM_SHA256 // what every peer has to agree to
	maxPlain   = 16 << 10                   // bytes of a record, RFC 8446 §5.1
	maxSealed  = maxPlain + 256             // §5.2
	recordHead = 5
	sealAtOnce = 64 << 10 // bytes put into records before they are written

	// Content types, RFC 8446 §5.1.
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

// clientTLS has only what is offered by all peers alike.
func clientTLS(keys io.Writer) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // the certificate is made for the run
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   []tls.CurveID{tls.X25519},
		KeyLogWriter:       keys,
	}
}

// writeCertificate makes a certificate for the run and writes it with its key.
func writeCertificate(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{"bench"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(path, b, 0o600)
}

// shakeHands makes a connected socket, which still blocks, one of TLS.
func shakeHands(fd int) (*records, error) {
	var keys bytes.Buffer
	c := tls.Client(&blocking{fd: fd}, clientTLS(&keys))
	if err := c.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if s := c.ConnectionState(); s.CipherSuite != suite {
		return nil, fmt.Errorf("TLS: the proxy chose %s instead of %s", tls.CipherSuiteName(s.CipherSuite), tls.CipherSuiteName(suite))
	}
	out, err := newHalf(keys.String(), "CLIENT_TRAFFIC_SECRET_0")
	if err != nil {
		return nil, err
	}
	in, err := newHalf(keys.String(), "SERVER_TRAFFIC_SECRET_0")
	return &records{in: in, out: out}, err
}

// blocking is a socket for the handshake. It never reads past the end of a
// record, so that what follows the handshake is left for the loop.
type blocking struct {
	net.Conn // none: of the rest crypto/tls calls nothing
	fd       int
	head     [recordHead]byte
	have     int // bytes of head
	left     int // bytes of the record's body
}

func (c *blocking) Read(b []byte) (n int, err error) {
	if c.left > 0 {
		n, err = c.read(b[:min(len(b), c.left)])
		c.left -= n
		return n, err
	}
	n, err = c.read(b[:min(len(b), recordHead-c.have)])
	c.have += copy(c.head[c.have:], b[:n])
	if c.have == recordHead {
		c.have, c.left = 0, int(binary.BigEndian.Uint16(c.head[3:]))
	}
	return n, err
}

func (c *blocking) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (c *blocking) Write(b []byte) (int, error) { return unix.Write(c.fd, b) }

// half is one direction of a connection.
type half struct {
	aead  cipher.AEAD
	iv    [12]byte
	nonce [12]byte
	seq   uint64
}

// newHalf takes a traffic secret from a key log, RFC 8446 §7.3.
func newHalf(keyLog, label string) (h half, err error) {
	for line := range strings.SplitSeq(keyLog, "\n") {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != label {
			continue
		}
		secret, err := hex.DecodeString(f[2])
		if err != nil {
			return h, err
		}
		expand := func(label string, n int) []byte {
			label = "tls13 " + label
			info := string([]byte{0, byte(n), byte(len(label))}) + label + "\x00"
			b, expandErr := hkdf.Expand(sha256.New, secret, info, n)
			err = errors.Join(err, expandErr)
			return b
		}
		block, blockErr := aes.NewCipher(expand("key", 16))
		copy(h.iv[:], expand("iv", 12))
		if err = errors.Join(err, blockErr); err != nil {
			return h, err
		}
		h.aead, err = cipher.NewGCM(block)
		return h, err
	}
	return h, fmt.Errorf("TLS: no %s in the key log", label)
}

// next is the nonce of the next record, RFC 8446 §5.3.
func (h *half) next() []byte {
	h.nonce = h.iv
	binary.BigEndian.PutUint64(h.nonce[4:], binary.BigEndian.Uint64(h.iv[4:])^h.seq)
	h.seq++
	return h.nonce[:]
}

// records is the record layer of one connection after its handshake.
type records struct {
	in, out half
	carry   []byte // the beginning of a record whose end has not come
	sealed  []byte // records still to be written
}

// fill reads once and puts what it holds into buf, behind its first n bytes.
// wire is as long as buf.
func (t *records) fill(fd int, buf []byte, n int, wire []byte) ([]byte, error) {
	k := copy(wire, t.carry)
	m, err := sysRead(fd, wire[k:len(buf)-n])
	if err != nil {
		return nil, err
	}
	b := wire[:k+m]
	for len(b) >= recordHead {
		end := recordHead + int(binary.BigEndian.Uint16(b[3:]))
		if end > recordHead+maxSealed {
			return nil, fmt.Errorf("TLS: a record of %d bytes", end)
		}
		if len(b) < end {
			break
		}
		plain, err := t.in.aead.Open(buf[n:n], t.in.next(), b[recordHead:end], b[:recordHead])
		if err != nil {
			return nil, fmt.Errorf("TLS: record %d: %w", t.in.seq, err)
		}
		plain = bytes.TrimRight(plain, "\x00") // §5.4
		if len(plain) == 0 {
			return nil, errors.New("TLS: a record without a type")
		}
		last := len(plain) - 1
		typ, plain := plain[last], plain[:last]
		switch {
		case typ == typeData:
			n += len(plain)
		case typ == typeHandshake && len(plain) > 0 && plain[0] == 4: // tickets, which are not used
		case typ == typeAlert && len(plain) == 2 && plain[1] == 0: // close_notify
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("TLS: a record of type %d: % x", typ, plain[:min(len(plain), 16)])
		}
		b = b[end:]
	}
	t.carry = append(t.carry[:0], b...)
	return buf[:n], nil
}

// put seals and writes once. It returns how much of b is taken, and whether
// all that is taken is written.
func (t *records) put(fd int, b []byte) (n int, written bool, err error) {
	if len(t.sealed) == 0 {
		for n < min(len(b), sealAtOnce) {
			plain := b[n:min(len(b), n+maxPlain)]
			t.sealed = t.out.seal(t.sealed, plain)
			n += len(plain)
		}
	}
	if len(t.sealed) > 0 {
		m, err := sysWrite(fd, t.sealed)
		if err == unix.EAGAIN {
			m, err = 0, nil
		}
		if err != nil {
			return 0, false, err
		}
		t.sealed = t.sealed[:copy(t.sealed, t.sealed[m:])]
	}
	return n, len(t.sealed) == 0, nil
}

// seal appends a record of application data.
func (h *half) seal(dst, plain []byte) []byte {
	size := len(plain) + 1 + h.aead.Overhead()
	start := len(dst)
	dst = append(dst, typeData, 3, 3, byte(size>>8), byte(size))
	dst = append(append(dst, plain...), typeData)
	body := dst[start+recordHead:]
	return h.aead.Seal(dst[:start+recordHead], h.next(), body, dst[start:start+recordHead])
}
