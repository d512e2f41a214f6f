package stream

import (
	"fmt"
	"io"
	"sync/atomic"

	"weir/proxy/http1"
)

// sizeError is a request body that turned out longer than its route allows.
type sizeError struct{ Limit, Actual int64 } // bytes; Actual: read so far, more may follow

func (e *sizeError) Error() string { return tooLarge("at least ", e.Actual, e.Limit) }

func tooLarge(least string, actual, limit int64) string {
	return fmt.Sprintf("request body of %s%d bytes exceeds max_body_size %d", least, actual, limit)
}

// requestBody hands a client's body on as it arrives and counts it. What the
// upstream's sender asks besides Read and Trailer is http1's.
type requestBody struct {
	*http1.BodyReader
	goesOn  func(name []byte) bool // of a field in the trailer; bound once
	trailer []byte                 // what Trailer returns
	limit   int64                  // bytes
	read    int64
	ended   atomic.Bool // nothing more will be read
}

func (b *requestBody) reset(r *http1.BodyReader, limit int64) {
	b.BodyReader, b.limit, b.read = r, limit, 0
	b.ended.Store(r == nil)
}

// Read implements io.Reader. A piece that crosses the limit is not handed on.
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.BodyReader.Read(p)
	if b.read += int64(n); b.read > b.limit {
		n, err = 0, &sizeError{Limit: b.limit, Actual: b.read}
	}
	if err != nil {
		b.ended.Store(true)
	}
	return n, err
}

// Trailer returns the lines of the trailer that go on.
func (b *requestBody) Trailer() []byte {
	b.trailer = appendLines(b.trailer[:0], b.BodyReader.Trailer(), b.goesOn)
	return b.trailer
}

var _ io.Reader = (*requestBody)(nil)
