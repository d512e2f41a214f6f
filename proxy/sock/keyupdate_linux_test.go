package sock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"weir/proxy/nettest"
	"weir/proxy/poll"
)

// updater is a client that writes its TLS records itself, since crypto/tls never
// asks for a key update (RFC 8446 §4.6.3).
type updater struct {
	t      testing.TB
	tcp    *net.TCPConn
	tls    *tls.Conn // to read by
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// updating returns the server's end of a TLS connection on a loop, and its client.
func updating(t testing.TB, p *poll.Poller) (*Conn, *updater) {
	t.Helper()
	s, peer := looped(t, p)
	own, roots := nettest.Certificate()
	server := Server(s, &tls.Config{Certificates: own})
	var keys bytes.Buffer
	u := &updater{t: t, tcp: peer, tls: tls.Client(peer, &tls.Config{RootCAs: roots, ServerName: "example.com", KeyLogWriter: &keys})}
	shake(t, u.tls, server)
	if got := u.tls.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		if !cpu.X86.HasAES && !cpu.ARM64.HasAES && os.Getenv("CI") == "" {
			t.Skip("without AES in hardware crypto/tls takes another cipher than this is written for")
		}
		t.Fatalf("crypto/tls took %s", tls.CipherSuiteName(got))
	}
	for line := range strings.Lines(keys.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			u.secret, _ = hex.DecodeString(f[2])
		}
	}
	u.rekey()
	return server, u
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func (u *updater) expand(label string, n int) []byte {
	label = "tls13 " + label
	b, err := hkdf.Expand(sha256.New, u.secret, string([]byte{0, byte(n), byte(len(label))})+label+"\x00", n)
	if err != nil {
		u.t.Fatal(err)
	}
	return b
}

func (u *updater) rekey() {
	block, err := aes.NewCipher(u.expand("key", 16))
	if err != nil {
		u.t.Fatal(err)
	}
	u.aead, _ = cipher.NewGCM(block)
	u.iv, u.seq = u.expand("iv", 12), 0
}

// record appends a record of that type.
func (u *updater) record(b []byte, kind byte, p ...byte) []byte {
	nonce := bytes.Clone(u.iv)
	for i := range 8 {
		nonce[11-i] ^= byte(u.seq >> (8 * i))
	}
	u.seq++
	head := []byte{23, 3, 3, 0, byte(len(p) + 1 + u.aead.Overhead())}
	return u.aead.Seal(append(b, head...), nonce, append(p, kind), head)
}

// updates are n records that each ask for another, with data behind them.
func (u *updater) updates(n int, data string) (b []byte) {
	for range n {
		b = u.record(b, 22, 24, 0, 0, 1, 1)
		u.secret = u.expand("traffic upd", 32)
		u.rekey()
	}
	if data != "" {
		b = u.record(b, 23, []byte(data)...)
	}
	return b
}

// A key update is answered with what is written next: who reads never writes, which
// could take a write deadline that has passed, or have none.
func TestKeyUpdatesAreAnsweredWithTheNextWrite(t *testing.T) {
	c, u := updating(t, newLoops(t, 1))
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	_, _ = u.tcp.Write(u.updates(3, "x"))
	b := make([]byte, 5)
	if n, err := c.Read(b); string(b[:n]) != "x" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	_ = u.tcp.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(u.tls, b); string(b) != "hello" || err != nil {
		t.Errorf("the client has %q, %v", b, err)
	}
}

// A task writes, and a goroutine reads: it must not wait as the task.
func TestKeyUpdatesAreReadBesideTheTaskThatWrites(t *testing.T) {
	p := newLoops(t, 1)
	c, u := updating(t, p)
	task := p.NewTask(func(*poll.Task) {})
	defer task.Resume(nil)
	c.Bind(task)
	c.BindRead(nil)
	b := make([]byte, 5)
	for range 2 {
		_, _ = u.tcp.Write(u.updates(unanswered, "x"))
		if n, err := c.Read(b); string(b[:n]) != "x" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
}

// unanswered is how many updates crypto/tls reads without data behind them.
const unanswered = 16

// Answers to key updates wait for what is written next, and that may never be.
func TestAnswersToKeyUpdatesAreBounded(t *testing.T) {
	p := newLoops(t, 1)
	c, u := updating(t, p)
	l, err := c.Leg(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b := &lender{size: 100}
	for range 1000 {
		_, _ = u.tcp.Write(u.updates(unanswered, "x"))
		if n, err := l.ReadTo(b); n != 1 {
			if err == nil {
				t.Error("nothing was read")
			}
			break
		}
	}
	if n := len(c.tls.out.b); n > maxOut {
		t.Errorf("%d bytes of answers are kept", n)
	}
}

// A peer that takes some of what waits, and never all, has no more of it kept.
func TestAnswersAreBoundedThoughSomeAreTaken(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	_ = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 1) // the least
	s := new(secure)
	s.shaken.Store(true)
	var came, went bytes.Buffer
	b := make([]byte, maxOut)
	for round := byte(0); came.Len() < 10*maxOut; round++ {
		waits := 0
		if s.out != nil {
			waits = len(s.out.b) - s.out.off
		}
		more := b[:maxOut-waits]
		for i := range more {
			more[i] = round
		}
		went.Write(more)
		if _, err := (*beneath)(s).Write(more); err != nil {
			t.Fatal(err)
		}
		if n := len(s.out.b); n > maxOut {
			t.Fatalf("%d bytes are kept, %d wait", n, len(s.out.b)-s.out.off)
		}
		if left, err := s.flush(uintptr(pair[0])); left == 0 || err != nil {
			t.Fatal(left, err)
		}
		n, _ := unix.Read(pair[1], b)
		came.Write(b[:n])
	}
	if !bytes.HasPrefix(went.Bytes(), came.Bytes()) {
		t.Error("what came is not what was sent")
	}
}

// A socket's read may bring hundreds of records, with something to compute for each:
// every one is a step of the task that reads.
func TestTLSRecordsAreStepsOfTheTaskThatReads(t *testing.T) {
	p := newLoops(t, 1)
	c, u := updating(t, p)
	const records, many = 2000, 100
	var b []byte
	for range records {
		b = u.record(b, 23, make([]byte, many)...)
	}
	_, _ = u.tcp.Write(b)
	done := make(chan struct{})
	over, turns := false, 0 // of the loop
	s := c.tcp.(*Socket)
	var other func(func())
	other = func(func()) {
		if turns++; !over {
			s.src.Call(other)
			return
		}
		close(done)
	}
	task := p.NewTask(func(task *poll.Task) {
		c.Bind(task)
		defer func() { over = true }()
		p := make([]byte, many)
		for range records {
			if _, err := c.Read(p); err != nil {
				t.Error(err)
				return
			}
		}
	})
	s.src.Call(func(leave func()) { task.Resume(leave); other(leave) })
	<-done
	if turns < records/50 {
		t.Errorf("%d turns of others while %d records were read", turns, records)
	}
}

// A turn of a leg counts records: each key update costs as much as a record with data.
func TestEachKeyUpdateIsAStep(t *testing.T) {
	const many, before = 100, 14
	p := newLoops(t, 1)
	c, u := updating(t, p)
	l, err := c.Leg(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var sent []byte
	for range many {
		sent = append(sent, u.updates(before, "x")...)
	}
	go func() { _, _ = u.tcp.Write(sent) }()
	steps, b := 0, make([]byte, 10)
	for came := 0; came < many; {
		n, err := l.TryRead(b)
		if err != nil {
			t.Fatal(err)
		}
		steps += l.Steps()
		if came += n; n == 0 {
			runtime.Gosched()
			steps-- // it has found nothing
		}
		if _, err := l.TryWrite(nil); err != nil { // the answers
			t.Fatal(err)
		}
	}
	if all := many * (before + 1); steps < all || steps > 2*all {
		t.Errorf("%d records were %d steps", all, steps)
	}
}
