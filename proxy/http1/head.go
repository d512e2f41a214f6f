package http1

import "bufio"

// ReadHead waits until br holds a whole head and returns it without consuming
// it. br must be larger than max bytes; a longer head is an *Error of status
// 431. io.EOF: the peer closed before the first byte.
func ReadHead(br *bufio.Reader, max int) (head []byte, err error) { panic("api") }
