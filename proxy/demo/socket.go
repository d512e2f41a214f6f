package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
)

const (
	readLimit   = 64 << 20 // bytes of one message; larger ones are answered with 1009
	maxCommand  = 4 << 10  // bytes of a message that may be a command
	keepBuffer  = 64 << 10 // bytes of read buffer kept between messages
	controlWait = time.Second
)

// writeBuffers are lent to a socket for the length of one write.
var writeBuffers = &sync.Pool{}

// upgrade answers a WebSocket handshake: the first offered subprotocol is
// taken, any origin is welcome (that is for the proxy to decide), and ?rate=
// starts a stream of events at once.
func (d *Demo) upgrade(ctx *fasthttp.RequestCtx) {
	q := query{args: ctx.QueryArgs()}
	spec := feedSpec{
		Rate:    q.int("rate", 0, 1, maxRate),
		Size:    q.int("size", 0, 0, maxSize),
		Seconds: q.int("seconds", 0, 0, maxSeconds),
	}
	if q.refused(ctx) {
		return
	}
	if offered := string(ctx.Request.Header.Peek("Sec-WebSocket-Protocol")); offered != "" {
		first, _, _ := strings.Cut(offered, ",")
		ctx.Response.Header.Set("Sec-WebSocket-Protocol", strings.TrimSpace(first))
	}
	u := websocket.FastHTTPUpgrader{
		CheckOrigin:     func(*fasthttp.RequestCtx) bool { return true },
		WriteBufferPool: writeBuffers,
		Error:           func(ctx *fasthttp.RequestCtx, status int, why error) { refuse(ctx, status, why.Error()) },
	}
	c, ok := ctx.Conn().(*conn)
	if !ok {
		refuse(ctx, fasthttp.StatusInternalServerError, "not a connection of this backend")
		return
	}
	err := u.Upgrade(ctx, func(ws *websocket.Conn) {
		s := &socket{demo: d, ws: ws, conn: c}
		d.panicked.Contain(func() { s.run(spec) })
	})
	if err != nil {
		d.log.Debug("demo handshake refused", "error", err)
	}
}

// socket is one WebSocket connection: a reader that echoes and obeys, and at
// most one goroutine that streams events.
type socket struct {
	demo *Demo
	ws   *websocket.Conn
	conn *conn

	write sync.Mutex // one message at a time

	// The running stream, only touched by the reader.
	stop chan struct{}  // closed to end it; nil: none was started
	wg   sync.WaitGroup // joins it
}

// run reads until the connection ends. The hijacked connection is recycled
// when it returns, so the stream is joined first.
func (s *socket) run(spec feedSpec) {
	defer s.halt()
	defer s.conn.cut() // a stream that is stuck in a write wakes up
	s.ws.SetReadLimit(readLimit)
	s.ws.SetCloseHandler(s.echoClose)
	if spec.Rate > 0 && !s.start(spec) {
		return
	}
	var buf bytes.Buffer
	for {
		op, r, err := s.ws.NextReader()
		if err != nil {
			s.logEnd(err)
			return
		}
		if _, err := io.Copy(&buf, r); err != nil {
			s.logEnd(err)
			return
		}
		if !s.obey(op, buf.Bytes()) {
			return
		}
		if buf.Reset(); buf.Cap() > keepBuffer {
			buf = bytes.Buffer{}
		}
	}
}

// obey does what a message asks for; what asks for nothing is echoed as it
// came, with the same opcode. It returns false when the socket is broken.
func (s *socket) obey(op int, msg []byte) bool {
	var cmd struct {
		Type string `json:"type"`
		feedSpec
	}
	if op != websocket.TextMessage || len(msg) > maxCommand || !bytes.HasPrefix(msg, []byte("{")) {
		return s.send(op, msg) == nil
	}
	cmd.Rate = 100
	err := json.Unmarshal(msg, &cmd)
	switch cmd.Type {
	case "stream":
		if err != nil {
			return s.complain(err)
		}
		return s.start(cmd.feedSpec)
	case "stop":
		if s.stop == nil {
			return s.sendText(`{"type":"stopped","sent":0}`) == nil
		}
		s.halt() // the stream says so itself
		return true
	default:
		return s.send(op, msg) == nil
	}
}

// start replaces the running stream.
func (s *socket) start(spec feedSpec) bool {
	if err := spec.check(); err != nil {
		return s.complain(err)
	}
	s.halt()
	stop := make(chan struct{})
	s.stop = stop
	s.wg.Go(func() {
		if !s.demo.panicked.Contain(func() { s.stream(spec, stop) }) {
			s.conn.cut() // the reader ends too
		}
	})
	return true
}

// halt ends the running stream and joins it.
func (s *socket) halt() {
	if s.stop != nil {
		close(s.stop)
		s.stop = nil
	}
	s.wg.Wait()
}

// stream sends events until its time is over, stop is closed or the socket
// breaks, and then says how many there were.
func (s *socket) stream(spec feedSpec, stop <-chan struct{}) {
	end, release := after(time.Duration(spec.Seconds) * time.Second)
	defer release()
	f, p := newFeed(spec), newPacer(spec.Rate)
	var msg []byte
	for n := p.wait(stop, end); n > 0; n = p.wait(stop, end) {
		for range n {
			msg = f.append(msg[:0])
			if s.send(websocket.TextMessage, msg) != nil {
				s.conn.cut() // the reader ends too
				return
			}
		}
	}
	text := `{"type":"stopped","sent":` + strconv.FormatInt(f.made, 10) + `,"messages":` + strconv.FormatInt(f.seq, 10) + `}`
	_ = s.sendText(text) // a socket that broke just now is found by the reader
}

func (s *socket) complain(err error) bool {
	b, _ := json.Marshal(err.Error()) // a string always marshals
	return s.sendText(`{"type":"error","error":{"code":"bad_request","message":`+string(b)+`}}`) == nil
}

func (s *socket) sendText(text string) error { return s.send(websocket.TextMessage, []byte(text)) }

// send writes one message in one frame. It waits for a slow peer as long as
// that takes: to bound it is the proxy's work.
func (s *socket) send(op int, msg []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	return s.ws.WriteMessage(op, msg)
}

// echoClose answers a close frame with the same code and reason.
func (s *socket) echoClose(code int, reason string) error {
	msg := websocket.FormatCloseMessage(code, reason) // empty for 1005
	return s.ws.WriteControl(websocket.CloseMessage, msg, time.Now().Add(controlWait))
}

func (s *socket) logEnd(err error) {
	if ce, ok := errors.AsType[*websocket.CloseError](err); ok {
		s.demo.log.Debug("demo socket closed", "code", ce.Code, "reason", ce.Text)
		return
	}
	s.demo.log.Debug("demo socket ended", "error", err)
}
