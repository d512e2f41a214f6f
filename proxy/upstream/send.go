package upstream

import (
	"errors"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/proxy/http1"
)

// inlineBody is the largest body that goes out in one write with its head.
const inlineBody = 16 << 10

// appendHead serialises the head of r.
func appendHead(b []byte, r *Request) []byte {
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, r.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Host...), "\r\n"...)
	switch {
	case r.Body == nil:
		switch string(r.Method) {
		case "PATCH", "POST", "PUT": // RFC 9110 §8.6
			b = append(b, "Content-Length: 0\r\n"...)
		}
	case r.ContentLength >= 0:
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10)
		b = append(b, "\r\n"...)
	default:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = append(b, r.Lines...)
	return append(b, "\r\n"...)
}

// addressed is the head of r, which has no Host, with that of t: many servers refuse
// an empty one (RFC 9112 §3.2). It is a copy, since the next target has another.
func addressed(head []byte, r *Request, t *target) []byte {
	at := len(r.Method) + len(" ") + len(r.Target) + len(" HTTP/1.1\r\nHost: ")
	return slices.Concat(head[:at], []byte(t.host), head[at:])
}

// inline appends a body that is here already; false: it is not, or too large.
func inline(b []byte, r *Request) ([]byte, bool, error) {
	if r.Body == nil {
		return b, true, nil
	}
	src, ok := r.Body.(interface{ Buffered() int })
	if !ok || r.ContentLength < 0 || r.ContentLength > inlineBody || int64(src.Buffered()) < r.ContentLength {
		return b, false, nil
	}
	at := len(b)
	b = append(b, make([]byte, r.ContentLength)...)
	_, err := io.ReadFull(r.Body, b[at:])
	return b, true, err
}

// sender sends a request body beside the exchange that waits for the answer.
// It ends with the body, with the connection, or when end interrupts it.
type sender struct {
	e    *Exchange
	c    *conn
	body io.Reader
	left int64 // of the content length; -1: chunked
	done sync.WaitGroup

	bodyRead  atomic.Bool // the body was read to its end
	lastWrite atomic.Bool // what remains is one write
	waiting   atomic.Bool // for the client
	began     time.Time
	last      atomic.Int64 // nanoseconds from began to the last progress
	ending    atomic.Bool

	sent bool  // whole; valid after done
	lost error // what a write has learnt of the connection's end; valid after done
}

// bodyBuffers hold one piece of a body and its chunk framing.
var bodyBuffers = sync.Pool{New: func() any { b := make([]byte, chunkRoom+bodyPiece+endRoom); return &b }}

const (
	chunkRoom = 16       // before the data, for the chunk's size
	bodyPiece = 32 << 10 // one read, one write
	endRoom   = 64       // behind the data, for the chunk's end and the last chunk
)

func (e *Exchange) startSender(body io.Reader, length int64) {
	s := &sender{e: e, c: e.c, body: body, left: length, began: time.Now()}
	s.waiting.Store(true)
	e.sender = s
	s.apart(true)
	s.done.Go(func() {
		if !e.u.panicked.Contain(s.run) {
			e.failBody(errPanicked)
		}
	})
}

// apart says whether the body's reads and the upstream's writes are the
// sender's, or those of who waits for the answer.
func (s *sender) apart(apart bool) {
	if b, ok := s.body.(interface{ Apart(bool) }); ok {
		b.Apart(apart)
	}
	t := s.c.nc.Task()
	if apart {
		t = nil
	}
	s.c.nc.BindWrite(t)
}

// join waits for the sender's end.
func (s *sender) join() {
	if t := s.c.nc.Task(); t != nil {
		t.Leave()
	}
	s.done.Wait()
	s.apart(false)
}

var errPanicked = errors.New("the request body could not be sent on: weir itself failed")

// progress tells when the body moved last, and whether it waits for the client.
func (s *sender) progress() (last time.Time, waiting bool) {
	return s.began.Add(time.Duration(s.last.Load())), s.waiting.Load()
}

// abandoned tells whether the client has left while the upstream takes nothing of
// the body: nobody reads from the client then.
func (s *sender) abandoned(now time.Time) bool {
	last, waiting := s.progress()
	b, ok := s.body.(interface{ Left() bool })
	return ok && !waiting && now.Sub(last) >= watchAfter && !s.bodyRead.Load() && b.Left()
}

// end interrupts the body and joins the sender.
func (s *sender) end() {
	s.ending.Store(true)
	if b, ok := s.body.(interface{ Interrupt() }); ok && !s.bodyRead.Load() {
		b.Interrupt()
	}
	s.join()
}

func (s *sender) run() {
	buf := bodyBuffers.Get().(*[]byte)
	defer bodyBuffers.Put(buf)
	for {
		s.waiting.Store(true)
		piece := (*buf)[chunkRoom : chunkRoom+bodyPiece]
		if s.left >= 0 {
			piece = piece[:min(int64(len(piece)), s.left)]
		}
		n, err := s.body.Read(piece)
		s.last.Store(int64(time.Since(s.began)))
		s.waiting.Store(false)
		if s.left >= 0 {
			if s.left -= int64(n); err == io.EOF && s.left > 0 {
				err = http1.ErrLength
			}
		}
		out := (*buf)[chunkRoom : chunkRoom+n]
		if s.left < 0 && n > 0 {
			if out = frameChunk(*buf, n); err == nil {
				out, err = s.more(out)
			}
		}
		if err != nil && err != io.EOF {
			if !s.ending.Load() {
				s.e.failBody(err)
			}
			return
		}
		if err == io.EOF || s.left == 0 {
			s.bodyRead.Store(true)
			if s.left < 0 {
				out = s.appendEnd(out)
			}
			s.lastWrite.Store(true)
		}
		if len(out) > 0 {
			// An upstream that stops reading may still answer: whoever reads
			// from it finds out.
			if _, err := s.c.rw.Write(out); err != nil {
				// A reset behind the upstream's own end is EPIPE, and changes nothing.
				if errno, ok := errors.AsType[syscall.Errno](err); ok && errno != syscall.EPIPE {
					s.lost = err
				}
				return
			}
			s.last.Store(int64(time.Since(s.began)))
		}
		if s.lastWrite.Load() {
			s.sent = true
			return
		}
		runtime.Gosched() // where both sides keep up nothing waits for them
	}
}

// frameChunk puts the size before the n bytes at buf[chunkRoom] and CRLF behind
// them; what it returns may have moved.
func frameChunk(buf []byte, n int) []byte {
	var size [chunkRoom]byte
	head := append(strconv.AppendInt(size[:0], int64(n), 16), "\r\n"...)
	from := chunkRoom - len(head)
	copy(buf[from:], head)
	return append(buf[from:chunkRoom+n], "\r\n"...)
}

// more appends the chunks that are here already: were each a write of its own, a client
// could have a system call made for each byte that it sends.
func (s *sender) more(out []byte) ([]byte, error) {
	src, ok := s.body.(interface{ Buffered() int })
	for pieces := 1; ok; pieces++ {
		if pieces%stepPieces == 0 {
			runtime.Gosched()
		}
		n := src.Buffered()
		at := len(out) + chunkRoom
		if n == 0 || at+n+endRoom > cap(out) {
			break
		}
		n, err := s.body.Read(out[at : at+n])
		if n > 0 {
			data := out[at : at+n]
			out = append(strconv.AppendInt(out, int64(n), 16), "\r\n"...)
			out = append(append(out, data...), "\r\n"...)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// stepPieces are the chunks that take as long as a read.
const stepPieces = 128

// appendEnd appends the last chunk and the trailer.
func (s *sender) appendEnd(out []byte) []byte {
	out = append(out, "0\r\n"...)
	if b, ok := s.body.(interface{ Trailer() []byte }); ok {
		out = append(out, b.Trailer()...)
	}
	return append(out, "\r\n"...)
}
