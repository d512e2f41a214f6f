package http1

import "bufio"

// BodyReader reads one message body: of a known length, chunked (strictly), or
// until the connection ends. A body that ends early is io.ErrUnexpectedEOF, a
// malformed one an *Error. Read and Next return io.EOF together with the last
// bytes when the end is already known, so that a small answer can go out in
// one write.
//
// One goroutine reads; Interrupt may be called from any.
type BodyReader struct {
	br *bufio.Reader
}

// NewRequestBody and NewResponseBody
func (b *BodyReader) Read(p []byte) (int, error) { panic("api") }

// Next returns the next bytes in place, at least one unless there is an error;
// they are valid until the next call. It blocks only when nothing is buffered.
func (b *BodyReader) Next() ([]byte, error) { panic("api") }

// Buffered is the number of bytes that Read or Next returns without waiting.
func (b *BodyReader) Buffered() int { panic("api") }

// Done tells whether the body was read to its proper end.
func (b *BodyReader) Done() bool { panic("api") }

// Trailer returns the trailer fields as "Name: value\r\n" lines, checked, once
// the body is Done.
func (b *BodyReader) Trailer() []byte { panic("api") }

// Interrupt makes a Read that waits for a client return ErrInterrupted, now and
// from here on; the connection ends after the answer.
func (b *BodyReader) Interrupt() { panic("api") }
