package demo

import (
	"io"
	"strconv"
)

// eventBody is a body of server-sent events at a rate. It ends cleanly after
// count events, and with an error, so that the response is cut, when the
// backend closes.
type eventBody struct {
	stop  <-chan struct{}
	pace  *pacer
	feed  *feed
	left  int // events; negative: no end
	id    int64
	ready []byte // formatted, not yet read
	rest  []byte // the unread end of ready
	event []byte
}

func newEventBody(stop <-chan struct{}, s feedSpec, count int) *eventBody {
	s.Mix = defaultMix
	left := count
	if count == 0 {
		left = -1
	}
	return &eventBody{stop: stop, pace: newPacer(s.Rate), feed: newFeed(s), left: left}
}

func (b *eventBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		n := b.pace.wait(b.stop)
		if n == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		if b.left > 0 {
			n = min(n, b.left)
			b.left -= n
		}
		b.ready = b.ready[:0]
		for range n {
			b.id++
			b.event = b.feed.append(b.event[:0])
			b.ready = append(b.ready, "id: "...)
			b.ready = strconv.AppendInt(b.ready, b.id, 10)
			b.ready = append(b.ready, "\ndata: "...)
			b.ready = append(b.ready, b.event...)
			b.ready = append(b.ready, "\n\n"...)
		}
		b.rest = b.ready
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// byteBody is a body of so many bytes. Byte i of it is i modulo 251, so that a
// reader can tell a lost byte from a moved one.
type byteBody struct {
	stop  <-chan struct{}
	pace  *pacer // nil: as fast as it is read
	left  int64
	chunk int
	here  int // unread bytes of the present chunk
	next  byte
}

func newByteBody(stop <-chan struct{}, total int64, chunk, rate int) *byteBody {
	b := &byteBody{stop: stop, left: total, chunk: chunk}
	if rate > 0 {
		b.pace = newPacer(rate)
	}
	return b
}

func (b *byteBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-b.stop:
		return 0, io.ErrUnexpectedEOF
	default:
	}
	if b.here == 0 {
		chunks := 1
		if b.pace != nil {
			if chunks = b.pace.wait(b.stop); chunks == 0 {
				return 0, io.ErrUnexpectedEOF
			}
		}
		b.here = int(min(int64(b.chunk)*int64(chunks), b.left))
	}
	// Without a pace a chunk is a read of its own; with one, what is due is.
	n := min(len(p), b.here)
	for i := range n {
		p[i] = b.next
		if b.next++; b.next == 251 {
			b.next = 0
		}
	}
	b.here -= n
	b.left -= int64(n)
	return n, nil
}
