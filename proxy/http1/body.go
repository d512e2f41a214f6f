package http1

import (
	"bufio"
	"io"
	"math"
)

// BodyReader reads one message body: of a known length, chunked (a request's
// strictly), or until the connection ends. A body that ends early is
// io.ErrUnexpectedEOF, a malformed one an *Error. Read and Next return io.EOF
// together with the last bytes when the end is already known, so that a small answer
// can go out in one write.
//
// One goroutine reads; Interrupt may be called from any.
type BodyReader struct {
	br      *bufio.Reader
	x       *Exchange // whose request this is the body of; nil for a response
	state   bodyState
	left    int64 // bytes of the body, or of the present chunk
	unread  int64 // of the chunk that was read from last
	chunked bool
	toEnd   bool // until the connection ends
	answer  bool // of a response: chunk extensions and white space before colons are passed over
	err     error
	trailer []byte
}

// bodyState is where in a body the reader stands.
type bodyState uint8

const (
	inData    bodyState = iota // left bytes of data come next
	atHead                     // a chunk size
	atEnd                      // the CRLF behind a chunk
	inTrailer                  // the trailer section
	atDone                     // nothing: the end was reached
)

// Reset makes b the body of the response i, which must have one, on br, which
// must be of more than 4 KiB.
func (b *BodyReader) Reset(br *bufio.Reader, i *ResponseInfo) {
	*b = BodyReader{br: br, left: i.ContentLength, chunked: i.Chunked, answer: true, trailer: b.trailer[:0]}
	if !i.Chunked && i.ContentLength < 0 {
		b.toEnd, b.left = true, math.MaxInt64
	}
	b.begin()
}

// resetRequest makes b the body of x's request.
func (b *BodyReader) resetRequest(x *Exchange, br *bufio.Reader) {
	*b = BodyReader{br: br, x: x, left: x.Info.ContentLength, chunked: x.Info.Chunked, trailer: b.trailer[:0]}
	b.begin()
}

func (b *BodyReader) begin() {
	if b.chunked {
		b.state, b.left = atHead, 0
	} else if b.left == 0 {
		b.state = atDone
	}
}

// Read implements io.Reader.
func (b *BodyReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := b.await(); err != nil {
		return 0, err
	}
	n, err := b.br.Read(p[:min(int64(len(p)), b.left)])
	if n == 0 {
		return 0, b.fail(err)
	}
	return n, b.took(n)
}

// Next returns the next bytes in place, at least one unless there is an error;
// they are valid until the next call. It blocks only when nothing is buffered.
func (b *BodyReader) Next() ([]byte, error) {
	if err := b.await(); err != nil {
		return nil, err
	}
	if b.br.Buffered() == 0 {
		if _, err := b.br.Peek(1); err != nil {
			return nil, b.fail(err)
		}
	}
	n := int(min(int64(b.br.Buffered()), b.left))
	p, _ := b.br.Peek(n)
	_, _ = b.br.Discard(n)
	return p, b.took(n)
}

// await waits until data comes next.
func (b *BodyReader) await() error {
	if b.x != nil {
		b.x.sendContinue()
	}
	b.settle(true)
	if b.state == atDone {
		return io.EOF
	}
	return b.err
}

// took notes n bytes of data as read and looks whether the end is already here.
func (b *BodyReader) took(n int) error {
	if !b.toEnd {
		b.left -= int64(n)
	}
	if b.chunked {
		b.unread = b.left
	}
	if b.left == 0 {
		b.state = atDone
		if b.chunked {
			b.state = atEnd
			b.settle(false)
		}
	}
	if b.state == atDone {
		return io.EOF
	}
	return nil
}

// settle moves over chunk framing, up to data or the end; without wait only as
// far as what is buffered goes.
func (b *BodyReader) settle(wait bool) {
	for b.state != inData && b.state != atDone && b.err == nil {
		buf, _ := b.br.Peek(b.br.Buffered())
		n, err := b.frame(buf)
		switch {
		case err != nil:
			b.err = err
		case n > 0:
			_, _ = b.br.Discard(n)
		case !wait:
			return
		default:
			if _, err := b.br.Peek(len(buf) + 1); err != nil {
				_ = b.fail(err)
			}
		}
	}
}

// frame parses one element of chunk framing at the beginning of buf; n is its
// length, 0 when more bytes are needed.
func (b *BodyReader) frame(buf []byte) (n int, err *Error) {
	switch b.state {
	case atEnd:
		if n, err = chunkEnd(buf); n > 0 {
			b.state = atHead
		}
	case atHead:
		var size int64
		if size, n, err = chunkHead(buf, b.answer); n > 0 {
			b.state, b.left = inData, size
			if size == 0 {
				b.state = inTrailer
			}
		}
	case inTrailer:
		if n, err = trailerEnd(buf); n > 0 {
			if b.trailer, err = appendTrailer(b.trailer, buf[:n], b.answer); err == nil {
				b.state = atDone
			}
		}
	}
	return n, err
}

// fail keeps the error that ended reading.
func (b *BodyReader) fail(err error) error {
	switch {
	case err == io.EOF && b.toEnd:
		b.state = atDone
		return io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return err
}

// Check tells how the framing of the body is malformed as far as it is here, before
// any of it is read. It does not wait.
func (b *BodyReader) Check() error {
	ahead := BodyReader{state: b.state, left: b.left, answer: b.answer}
	buf, _ := b.br.Peek(b.br.Buffered())
	for b.chunked && len(buf) > 0 && ahead.state != atDone {
		if ahead.state == inData {
			n := min(int64(len(buf)), ahead.left)
			buf, ahead.left = buf[n:], ahead.left-n
			if ahead.left == 0 {
				ahead.state = atEnd
			}
			continue
		}
		n, err := ahead.frame(buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		buf = buf[n:]
	}
	return nil
}

// Buffered is the number of bytes that Read or Next returns without waiting.
// It is 0 at the end as well.
func (b *BodyReader) Buffered() int {
	b.settle(false)
	if b.state != inData || b.err != nil {
		return 0
	}
	return int(min(int64(b.br.Buffered()), b.left))
}

// Waits tells whether Read or Next would have to wait.
func (b *BodyReader) Waits() bool { return b.Buffered() == 0 && b.state != atDone && b.err == nil }

// ChunkLeft is how many bytes of the chunk that Read or Next returned from last
// are still to come; 0 when the body is not chunked.
func (b *BodyReader) ChunkLeft() int64 { return b.unread }

// Done tells whether the body was read to its proper end.
func (b *BodyReader) Done() bool { return b.state == atDone }

// Trailer returns the trailer fields as "Name: value\r\n" lines, checked, once
// the body is Done. They are valid as long as the exchange.
func (b *BodyReader) Trailer() []byte {
	if b.state != atDone {
		return nil
	}
	return b.trailer
}

// Interrupt makes a Read that waits for a client return ErrInterrupted, now and
// from here on; an answer by Respond says that the connection ends. It does nothing to
// the body of a response.
func (b *BodyReader) Interrupt() {
	if b.x != nil {
		b.x.c.interrupt()
	}
}

// Left tells whether the client has disconnected, also while what it sent is unread;
// one that has ended its sending side only counts as well. It does not wait, and may
// be called beside Read. The body of a response has no client.
func (b *BodyReader) Left() (left bool) {
	if b.x == nil || b.x.c.raw == nil {
		return false
	}
	err := b.x.c.raw.Control(func(fd uintptr) { left = hungUp(fd) })
	return left || err != nil
}
