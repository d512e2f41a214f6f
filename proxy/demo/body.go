package demo

import (
	"io"
	"strconv"
	"time"
)

// body is a response body made chunk by chunk: each is one HTTP chunk, sent
// when it is made. next returns io.EOF for a clean end, and any other error to
// have the response cut.
type body struct {
	next func() ([]byte, error)
	rest []byte // of a chunk that Read could not hold
}

var errClosing = io.ErrUnexpectedEOF // the backend closes: the body is not whole

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		var err error
		if b.rest, err = b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// SupportsBodyWriteTo tells fasthttp to keep the chunks as they are.
func (b *body) SupportsBodyWriteTo() bool { return true }

// WriteTo writes every chunk with one call.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		chunk, err := b.next()
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		n, err := w.Write(chunk)
		sum += int64(n)
		if err != nil {
			return sum, err
		}
	}
}

// newEventBody is a body of server-sent events at a rate, count of them or,
// with 0, without end.
func newEventBody(stop <-chan struct{}, s feedSpec, count int) *body {
	s.Mix = defaultMix
	pace, feed := newPacer(s.Rate), newFeed(s)
	var chunk, event []byte
	owed := 0 // events that are due
	return &body{next: func() ([]byte, error) {
		if count > 0 && feed.made == int64(count) {
			return nil, io.EOF
		}
		if owed == 0 {
			if owed = pace.wait(stop, nil); owed == 0 {
				return nil, errClosing
			}
		}
		if count > 0 {
			owed = int(min(int64(owed), int64(count)-feed.made))
		}
		chunk = chunk[:0]
		for ; owed > 0 && len(chunk) < maxTogether; owed-- {
			event = feed.append(event[:0])
			chunk = append(chunk, "id: "...)
			chunk = strconv.AppendInt(chunk, feed.made, 10)
			chunk = append(chunk, "\ndata: "...)
			chunk = append(chunk, event...)
			chunk = append(chunk, "\n\n"...)
		}
		return chunk, nil
	}}
}

// maxTogether is how many bytes of events are enough for one chunk: of what is due
// after a wait there may be gigabytes.
const maxTogether = 64 << 10

// byteCycle is the period of a byte body: byte i is i modulo byteCycle, a
// prime, so that a reader can tell a lost byte from a moved one.
const byteCycle = 251

// newByteBody is a body of so many bytes in chunks, rate of them per second
// or, with 0, as fast as they are taken.
func newByteBody(stop <-chan struct{}, total int64, size, rate int) *body {
	var pace *pacer
	if rate > 0 {
		pace = newPacer(rate)
	}
	// A chunk that begins at byte i is a window of the cycle, written out once.
	cycle := make([]byte, min(int64(size), total)+byteCycle)
	for i := range cycle {
		cycle[i] = byte(i % byteCycle)
	}
	var sent int64
	owed := 0 // chunks that are due
	return &body{next: func() ([]byte, error) {
		if sent == total {
			return nil, io.EOF
		}
		select {
		case <-stop:
			return nil, errClosing
		default:
		}
		if pace != nil && owed == 0 {
			if owed = pace.wait(stop, nil); owed == 0 {
				return nil, errClosing
			}
		}
		owed--
		n := min(int64(size), total-sent)
		from := sent % byteCycle
		sent += n
		return cycle[from : from+n], nil
	}}
}

// after is a channel that fires once d has passed, or never for 0.
func after(d time.Duration) (fire <-chan time.Time, stop func()) {
	if d == 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
