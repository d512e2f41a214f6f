//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The soak's upstreams are processes of their own, to be killed and stopped: the
// test's binary with this in its environment.
const soakEnv = "WEIR_SOAK_UPSTREAM" // "address seed"

func init() {
	if v := os.Getenv(soakEnv); v != "" {
		serveSoak(v)
		os.Exit(0)
	}
}

// smallBuffers keeps the kernel from hiding who reads slowly.
func smallBuffers(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) })
}

// report writes what upstream peers see to the parent: what is lost by a SIGKILL
// is the last of it.
type report struct {
	mu sync.Mutex
	w  *bufio.Writer
}

func (r *report) note(tunnel uint32, h happening) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := binary.LittleEndian.AppendUint32(r.w.AvailableBuffer(), tunnel)
	b = append(b, h.what)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.value))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.text)))
	_, _ = r.w.Write(append(b, h.text...))
	if h.what == sawEnd || h.what == sawWrong {
		_ = r.w.Flush()
	}
}

// serveSoak is the upstream process. It ends with its standard input.
func serveSoak(v string) {
	addr, number, _ := strings.Cut(v, " ")
	seed, err := strconv.ParseInt(number, 10, 64)
	var l net.Listener
	for i := 0; err == nil && i < 100; i++ {
		if l, err = (&net.ListenConfig{Control: smallBuffers}).Listen(context.Background(), "tcp", addr); err == nil {
			break
		}
		<-time.After(20 * time.Millisecond)
		if i < 99 {
			err = nil
		}
	}
	if err != nil || l == nil {
		fmt.Fprintln(os.Stderr, "upstream of the soak:", err)
		os.Exit(1)
	}
	r := &report{w: bufio.NewWriterSize(os.Stdout, 60<<10)}
	go func() { // flushes while the process lives
		for range time.Tick(20 * time.Millisecond) {
			r.mu.Lock()
			_ = r.w.Flush()
			r.mu.Unlock()
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /soak/{tunnel}", func(w http.ResponseWriter, req *http.Request) {
		tunnel, err := strconv.ParseUint(req.PathValue("tunnel"), 10, 32)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Time{})
		sum := sha1.Sum([]byte(req.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
			base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
		p := soakPeer{
			c: c, br: rw.Reader, seed: seed, tunnel: uint32(tunnel), sends: toClient,
			note: func(h happening) { r.note(uint32(tunnel), h) },
		}
		p.run(rand.New(rand.NewPCG(uint64(seed), tunnel<<1|1)))
	})
	mux.HandleFunc("GET /bytes", func(w http.ResponseWriter, req *http.Request) {
		n, _ := strconv.Atoi(req.FormValue("n"))
		if n%2 == 0 {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		_, _ = w.Write(padding[:n])
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if _, err := io.Copy(w, req.Body); err != nil {
			panic(http.ErrAbortHandler) // half an echo is none
		}
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		n, _ := strconv.Atoi(req.FormValue("n"))
		for id := 1; id <= n; id++ {
			if _, err := fmt.Fprintf(w, "id: %d\n\n", id); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			<-time.After(5 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "data: end\n\n")
	})
	go func() { _ = http.Serve(l, mux) }() // until the process ends
	_, _ = io.Copy(io.Discard, os.Stdin)
	r.mu.Lock()
	_ = r.w.Flush()
}

// soakUpstream is the parent's end of it.
type soakUpstream struct {
	addr  string
	cmd   *exec.Cmd
	stdin io.Closer
	read  sync.WaitGroup
}

// start runs the process; what it reports goes to note.
func (u *soakUpstream) start(t *testing.T, seed int64, note func(tunnel uint32, h happening)) {
	t.Helper()
	u.cmd = exec.Command(os.Args[0])
	u.cmd.Env = append(os.Environ(), soakEnv+"="+u.addr+" "+strconv.FormatInt(seed, 10))
	u.cmd.Stderr = os.Stderr
	var err error
	if u.stdin, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	u.cmd.Stdout = w
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	u.read.Go(func() { // ends with the process
		defer out.Close()
		br := bufio.NewReaderSize(out, 64<<10)
		var head [15]byte
		for {
			if _, err := io.ReadFull(br, head[:]); err != nil {
				return
			}
			text := make([]byte, binary.LittleEndian.Uint16(head[13:]))
			if _, err := io.ReadFull(br, text); err != nil {
				return
			}
			note(binary.LittleEndian.Uint32(head[:]), happening{head[4], int64(binary.LittleEndian.Uint64(head[5:])), string(text)})
		}
	})
}

// kill ends the process at once.
func (u *soakUpstream) kill() {
	_ = u.cmd.Process.Kill()
	u.join()
}

// end lets it finish what it has to say.
func (u *soakUpstream) end() {
	_ = u.cmd.Process.Signal(syscall.SIGCONT)
	u.stdin.Close()
	u.join()
}

func (u *soakUpstream) join() {
	u.read.Wait()
	u.stdin.Close()
	_ = u.cmd.Wait()
}
