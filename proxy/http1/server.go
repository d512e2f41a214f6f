package http1

import (
	"context"
	"net"
	"time"
)

// Settings bound one request; they are read anew for each.
type Settings struct {
	HeadTimeout  time.Duration // first byte to blank line; also the wait for the first byte of a connection
	IdleTimeout  time.Duration // between requests, and a request body without progress
	WriteTimeout time.Duration // one blocked write of at most 64 KiB
	MaxHeadBytes int           // 0: 16 KiB
}

// Server runs connections. All funcs but Handler may be nil.
type Server struct {
	Handler  func(*Exchange)
	Refuse   func(*Exchange, *Error) // writes the answer to a request that could not be read; the connection closes after
	Settings func() Settings
	Panic    func(v any, stack []byte) // Handler panicked: that connection has ended
}

// ServeConn serves c until it ends or is detached.
func (s *Server) ServeConn(c net.Conn) { panic("api") }

// Drain closes idle connections and answers the others with Connection: close.
func (s *Server) Drain() { panic("api") }

// Wait returns when every ServeConn has; detached connections do not count.
func (s *Server) Wait(ctx context.Context) error { panic("api") }

// Close ends every connection at once.
func (s *Server) Close() { panic("api") }
