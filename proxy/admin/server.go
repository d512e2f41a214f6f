package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of one admin connection.
const (
	readTimeout    = 10 * time.Second // a whole request; the answer may take longer
	idleTimeout    = 2 * time.Minute  // between requests
	maxHeaderBytes = 16 << 10
)

// maxConnections is how many are open at once: each takes a descriptor that the
// gateway's clients would lack, and needs no token. One more takes the place of that
// which has waited longest for a request; where none does it is closed.
const maxConnections = 32

// Server serves a handler on listeners that it is given.
type Server struct {
	http   http.Server
	log    *slog.Logger
	cancel context.CancelFunc // of every request's context
	serves sync.WaitGroup     // one goroutine per listener, until Shutdown

	mu    sync.Mutex
	conns map[net.Conn]int64 // since which turn it waits for a whole head; 0: it is being answered
	turn  int64
}

// connection is the key of a request's net.Conn in its context.
type connection struct{}

// NewServer returns a server for what NewHandler made.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{log: log, cancel: cancel, conns: map[net.Conn]int64{}}
	s.http = http.Server{
		Handler:        s.counted(h),
		ReadTimeout:    readTimeout,
		WriteTimeout:   answerTimeout, // also of what net/http answers by itself
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) },
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
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.turn++
		s.conns[c] = s.turn
		if len(s.conns) > maxConnections {
			most := s.longest()
			delete(s.conns, most)
			_ = most.Close() // its read fails
		}
	case http.StateClosed:
		delete(s.conns, c)
	}
}

// longest is the connection that has waited longest: the newest, where the others are
// being answered.
func (s *Server) longest() (most net.Conn) {
	for c, since := range s.conns {
		if since > 0 && (most == nil || since < s.conns[most]) {
			most = c
		}
	}
	return most
}

// counted notes which connections are being answered.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connection{}).(net.Conn)
		s.waits(c, false)
		defer s.waits(c, true)
		h.ServeHTTP(w, r)
	})
}

// waits notes whether c waits for a request from now on, unless it had to go.
func (s *Server) waits(c net.Conn, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.conns[c]; !open {
		return
	}
	s.conns[c] = 0
	if yes {
		s.turn++
		s.conns[c] = s.turn
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
