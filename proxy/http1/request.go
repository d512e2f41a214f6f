package http1

// RequestInfo is what the head of a request says about its message and its
// connection. Slices point into the checked head.
type RequestInfo struct {
	ContentLength int64 // bytes; -1: none was given
	Chunked       bool
	HTTP10        bool
	Close         bool // the connection ends after the answer
	KeepAlive10   bool // HTTP/1.0 that asked for keep-alive
	Upgrade       bool // a GET of HTTP/1.1 with Connection: upgrade and Upgrade: websocket
	Expect100     bool // the client waits for 100 (Continue) before its body
	Absolute      bool // the target was in absolute form: Host and target come from it

	authority, target []byte // of the absolute form
}

// HasBody tells whether a body follows the head.
func (i *RequestInfo) HasBody() bool { return i.Chunked || i.ContentLength > 0 }

// CheckRequestHead checks a whole head, its final blank line included. The
// error is an *Error.
func CheckRequestHead(head []byte) (RequestInfo, error) { panic("api") }
