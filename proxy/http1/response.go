package http1

// ResponseInfo is what the head of a response says about its message and its
// connection.
type ResponseInfo struct {
	Status        int
	ContentLength int64 // bytes; -1: unknown
	Chunked       bool
	Close         bool // the connection ends with this response
	NoBody        bool // HEAD, 1xx, 204, 304
}

// CheckResponseHead checks a whole head, its final blank line included; method
// is the request's. The error is an *Error.
func CheckResponseHead(head, method []byte) (ResponseInfo, error) { panic("api") }
