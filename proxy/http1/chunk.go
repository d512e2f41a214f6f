package http1

import "bytes"

const (
	maxChunkDigits  = 15   // a chunk is shorter than 2^60 bytes
	maxExtension    = 1024 // bytes, all that stand behind one size
	maxTrailerBytes = 4096
)

// chunkHead parses "SIZE CRLF" at the beginning of b: n is its length, 0 when
// more bytes are needed. Extensions are skipped where extended is set, and refused
// else: nobody who means well sends them in a request, and proxies disagree about
// where they end.
func chunkHead(b []byte, extended bool) (size int64, n int, err *Error) {
	for i, c := range b {
		if class[c]&isHex != 0 {
			if i == maxChunkDigits {
				return 0, 0, badChunk("a chunk size of more than 15 digits")
			}
			size = size<<4 | int64(hexValue(c))
			continue
		}
		if extended && i > 0 {
			if n, err = extensions(b[i:]); err != nil || i+n == len(b) {
				return 0, 0, err
			}
			i += n
			c = b[i]
		}
		switch {
		case i == 0:
			return 0, 0, badChunk("a chunk size that is not hexadecimal")
		case c == ';':
			return 0, 0, badChunk("a chunk extension")
		case c == ' ' || c == '\t':
			return 0, 0, badChunk("white space behind a chunk size")
		case c != '\r':
			return 0, 0, badChunk("a chunk size that does not end in CRLF")
		case i+1 == len(b):
			return 0, 0, nil
		case b[i+1] != '\n':
			return 0, 0, badChunk("a chunk size that does not end in CRLF")
		}
		return size, i + 2, nil
	}
	return 0, 0, nil
}

// extensions returns the length of the chunk extensions at the beginning of b, up to
// where their CRLF must be; 0: there are none. White space may stand before the
// semicolon, and neither CR nor LF in a quoted value (RFC 9112 §7.1.1).
func extensions(b []byte) (n int, err *Error) {
	for n < len(b) && (b[n] == ' ' || b[n] == '\t') {
		n++
	}
	if n < len(b) && b[n] != ';' {
		return 0, nil
	}
	for n < len(b) && class[b[n]]&isValue != 0 {
		n++
	}
	switch {
	case n > maxExtension:
		return 0, badChunk("chunk extensions of more than 1024 bytes")
	case n < len(b) && b[n] != '\r':
		return 0, badChunk("a control character in a chunk extension")
	}
	return n, nil
}

// chunkEnd parses the CRLF behind the data of a chunk.
func chunkEnd(b []byte) (n int, err *Error) {
	if len(b) > 0 && b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
		return 0, badChunk("a chunk longer than its size")
	}
	if len(b) < 2 {
		return 0, nil
	}
	return 2, nil
}

// trailerEnd returns the length of the trailer section at the beginning of b,
// its blank line included; 0 when more bytes are needed.
func trailerEnd(b []byte) (n int, err *Error) {
	switch {
	case bytes.HasPrefix(b, []byte("\r\n")):
		return 2, nil
	case len(b) > 0 && b[0] == '\n':
		return 0, badChunk("a last chunk that does not end in CRLF")
	}
	if n = headEnd(b, 0); n > maxTrailerBytes || n == 0 && len(b) >= maxTrailerBytes {
		return 0, &Error{Status: 431, Reason: "a trailer longer than 4096 bytes"}
	}
	return n, nil
}

func badChunk(reason string) *Error { return &Error{Status: 400, Reason: reason} }

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
