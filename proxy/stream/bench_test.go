package stream

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkServe is a GET through Weir, one at a time on one connection; its
// peer is the same without Weir.
func BenchmarkServe(b *testing.B) {
	for _, size := range []int{128, 16 << 10} {
		answer := "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: " +
			strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat("x", size)
		backend := script(b, func(p *peer) {
			_ = p.SetDeadline(time.Time{})
			for {
				for line := []byte(nil); string(line) != "\r\n"; {
					var err error
					if line, err = p.br.ReadSlice('\n'); err != nil {
						return
					}
				}
				if _, err := io.WriteString(p.Conn, answer); err != nil {
					return
				}
			}
		})
		r := newRig(b, backend)
		r.proxy.Log = nil
		run := func(name, addr string) {
			b.Run(strconv.Itoa(size)+"/"+name, func(b *testing.B) {
				direct := &rig{t: b, addr: addr}
				c := direct.dial()
				defer c.Close()
				_ = c.SetDeadline(time.Time{})
				request := []byte("GET /a/b HTTP/1.1\r\nHost: a.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Write(request); err != nil {
						b.Fatal(err)
					}
					for line := []byte(nil); string(line) != "\r\n"; {
						var err error
						if line, err = c.br.ReadSlice('\n'); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := c.br.Discard(size); err != nil {
						b.Fatal(err)
					}
					select {
					case <-r.served:
					default:
					}
				}
			})
		}
		run("direct", backend)
		run("weir", r.addr)
	}
}
