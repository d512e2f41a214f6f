package http1

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
)

// ReadHead waits until br holds a whole head and returns it without consuming
// it. br should be larger than max bytes; a longer head is an *Error of status
// 431, or 414 when its first line is. io.EOF: the peer closed before the first byte;
// io.ErrUnexpectedEOF: after it.
func ReadHead(br *bufio.Reader, max int) (head []byte, err error) {
	max = min(max, br.Size())
	scanned := 0
	for {
		buf, _ := br.Peek(br.Buffered())
		n := headEnd(buf, scanned)
		if n > max || n == 0 && len(buf) >= max {
			if bytes.IndexByte(buf[:max], '\n') < 0 { // RFC 9112 §3
				return nil, &Error{Status: 414, Reason: "a first line longer than " + strconv.Itoa(max) + " bytes"}
			}
			return nil, &Error{Status: 431, Reason: "a head longer than " + strconv.Itoa(max) + " bytes"}
		}
		if n > 0 {
			return buf[:n], nil
		}
		scanned = len(buf)
		if _, err := br.Peek(scanned + 1); err != nil {
			if scanned > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// headEnd returns the length of the head in b, 0 while its blank line has not
// come. scanned bytes are known not to have it. A blank line after a bare LF
// counts as an end too, so that such a head is refused at once instead of
// waited for.
func headEnd(b []byte, scanned int) int {
	from := max(0, scanned-3)
	end := 0
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		end = from + i + 4
	} else if i := bytes.Index(b[from:], []byte("\n\n")); i >= 0 {
		end = from + i + 2
	} else if i := bytes.Index(b[from:], []byte("\n\r\n")); i >= 0 {
		end = from + i + 3
	}
	return end
}
