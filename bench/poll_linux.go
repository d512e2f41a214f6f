package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bufferBytes = 256 << 10 // read at once; more than the largest frame
	tickEvery   = time.Millisecond
)

// handler is a socket of a loop. ready is called when it can be read or
// written; the error that it returns ends the socket and is given to end.
type handler interface {
	ready(events uint32) error
	end(err error)
}

// loop serves non-blocking sockets on one thread with epoll: no goroutine per
// socket, so that the generator costs little beside what it measures.
type loop struct {
	ep, event int
	buf       []byte
	wire      []byte    // what buf is opened from, over TLS
	conns     []handler // by descriptor; nil: not ours
	woken     func()    // called on the loop's thread after wake
	tick      func()    // called about every tickEvery; nil: never
	quit      atomic.Bool

	mu      sync.Mutex
	entered map[int]handler // guarded by mu: sockets from other threads
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{ep: ep, event: event, buf: make([]byte, bufferBytes), entered: map[int]handler{}}
	err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)})
	return l, err
}

// wake has woken called.
func (l *loop) wake() { _, _ = unix.Write(l.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// run serves until stop, then closes every socket that is left.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]unix.EpollEvent, 256)
	last := time.Now()
	for !l.quit.Load() {
		wait := -1
		if l.tick != nil {
			wait = int(tickEvery / time.Millisecond)
		}
		n, err := unix.EpollWait(l.ep, events, wait)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprint("epoll_wait: ", err)) // a descriptor of our own is bad: a bug here
		}
		for i := range max(n, 0) {
			fd := int(events[i].Fd)
			if fd == l.event {
				var b [8]byte
				_, _ = unix.Read(fd, b[:])
				l.admit()
				if l.woken != nil {
					l.woken()
				}
				continue
			}
			if fd < len(l.conns) && l.conns[fd] != nil {
				if err := l.conns[fd].ready(events[i].Events); err != nil {
					l.drop(fd, err)
				}
			}
		}
		if l.tick != nil && time.Since(last) >= tickEvery {
			last = time.Now()
			l.tick()
		}
	}
	l.admit()
	for fd, h := range l.conns {
		if h != nil {
			l.drop(fd, nil)
		}
	}
	unix.Close(l.event)
	unix.Close(l.ep)
}

// enter adds a socket from another thread.
func (l *loop) enter(fd int, h handler) {
	l.mu.Lock()
	l.entered[fd] = h
	l.mu.Unlock()
	l.wake()
}

func (l *loop) admit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for fd, h := range l.entered {
		if err := l.add(fd, h); err != nil {
			unix.Close(fd)
			h.end(err)
		} else if err := h.ready(unix.EPOLLOUT); err != nil {
			l.drop(fd, err)
		}
	}
	clear(l.entered)
}

// stop ends run; the caller waits for it.
func (l *loop) stop() {
	l.quit.Store(true)
	l.wake()
}

func (l *loop) add(fd int, h handler) error {
	for fd >= len(l.conns) {
		l.conns = append(l.conns, make([]handler, max(64, fd))...)
	}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	l.conns[fd] = h
	return nil
}

// forget leaves a socket to another loop.
func (l *loop) forget(fd int) error {
	l.conns[fd] = nil
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, fd, nil)
}

// drop closes a socket.
func (l *loop) drop(fd int, err error) {
	h := l.conns[fd]
	l.conns[fd] = nil
	unix.Close(fd)
	h.end(err)
}
