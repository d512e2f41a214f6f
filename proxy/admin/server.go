package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one admin connection.
const (
	readTimeout    = 10 * time.Second // a whole request; the answer may take longer
	idleTimeout    = 2 * time.Minute  // between requests
	maxHeaderBytes = 16 << 10
)

// maxConnections is how many are open at once: each takes a descriptor that the
// gateway's clients would lack, and needs no token. What is above is closed.
const maxConnections = 32

// Server serves a handler on listeners that it is given.
type Server struct {
	http   http.Server
	log    *slog.Logger
	cancel context.CancelFunc // of every request's context
	open   atomic.Int32       // connections
	serves sync.WaitGroup     // one goroutine per listener, until Shutdown
}

// NewServer returns a server for what NewHandler made.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{log: log, cancel: cancel}
	s.http = http.Server{
		Handler:        h,
		ReadTimeout:    readTimeout,
		WriteTimeout:   answerTimeout, // also of what net/http answers by itself
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnState:      s.count,
	}
	return s
}

// Start serves l, which the server closes, until Shutdown.
func (s *Server) Start(l net.Listener) {
	s.serves.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the admin listener ended", "address", l.Addr().String(), "error", err)
		}
	})
}

// count keeps to maxConnections.
func (s *Server) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if s.open.Add(1) > maxConnections {
			_ = c.Close() // its read fails, which makes it StateClosed
		}
	case http.StateClosed:
		s.open.Add(-1)
	}
}

// Shutdown closes the listeners, ends running profiles, lets other answers
// finish until ctx ends, and joins what Start began. The error is ctx's when
// answers were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close() // what is open is cut off; err says so
	}
	s.serves.Wait()
	return err
}
