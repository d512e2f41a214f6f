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
// gateway's clients would lack, and needs no token. One more waits for a place, and then
// takes that of the one which has waited longest for a request; where none does, of the
// one whose answer has waited longest to be taken. Where all are being answered it is closed.
const maxConnections = 32

// patience is how long a connection may wait at least, and one more for its place at most:
// of many who ask at once each is to be heard. A thousand a second who say nothing find
// places for all; above that a probe waits behind those that the kernel holds.
const patience = 30 * time.Millisecond

// Server serves a handler on listeners that it is given.
type Server struct {
	http   http.Server
	log    *slog.Logger
	cancel context.CancelFunc // of every request's context
	serves sync.WaitGroup     // one goroutine per listener, until Shutdown

	mu    sync.Mutex
	conns map[net.Conn]stage
	left  chan struct{} // holds one when a connection has ended
}

// stage is what a connection is about, and since when.
type stage struct {
	now   int
	since time.Time
}

const (
	asks     = iota // the whole head of a request has not come
	takes           // what the answer is has been said, and not all of it is sent
	answered        // it stays
)

// connection is the key of a request's net.Conn in its context.
type connection struct{}

// NewServer returns a server for what NewHandler made.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{log: log, cancel: cancel, conns: map[net.Conn]stage{}, left: make(chan struct{}, 1)}
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

// count keeps to maxConnections. The next connection is accepted when a new one has its
// place.
func (s *Server) count(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		if s.room() {
			s.conns[c] = stage{asks, time.Now()}
		} else {
			_ = c.Close() // its read fails
		}
	case http.StateIdle: // all of the answer is sent
		s.enter(c, asks)
	case http.StateClosed:
		delete(s.conns, c)
		select {
		case s.left <- struct{}{}:
		default:
		}
	}
}

// room makes room for one more, or reports that there is none. s.mu is free while it waits.
func (s *Server) room() bool {
	came := time.Now()
	for len(s.conns) >= maxConnections {
		most, since := s.longest()
		if most == nil || since.After(came) {
			since = came
		}
		if wait := patience - time.Since(since); wait > 0 {
			s.mu.Unlock()
			select {
			case <-s.left:
			case <-time.After(wait):
			}
			s.mu.Lock()
			continue
		}
		if most == nil {
			return false
		}
		delete(s.conns, most)
		_ = most.Close() // its read or its write fails
	}
	return true
}

// longest is the connection that is to make room first; nil where all are being answered.
func (s *Server) longest() (most net.Conn, since time.Time) {
	first := stage{now: answered}
	for c, st := range s.conns {
		if st.now < first.now || st.now == first.now && st.now != answered && st.since.Before(first.since) {
			most, first = c, st
		}
	}
	return most, first.since
}

// counted notes which connections are being answered. For one that had to go since its
// request was read nothing is done.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connection{}).(net.Conn)
		s.mu.Lock()
		open := s.enter(c, answered)
		s.mu.Unlock()
		if !open {
			panic(http.ErrAbortHandler)
		}
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.enter(c, takes)
		}()
		h.ServeHTTP(w, r)
	})
}

// enter notes what c is about from now on, and reports whether it is open still.
func (s *Server) enter(c net.Conn, now int) bool {
	_, open := s.conns[c]
	if open {
		s.conns[c] = stage{now, time.Now()}
	}
	return open
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
