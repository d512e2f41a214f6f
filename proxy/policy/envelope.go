package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"weir/hostabi"
)

// gapTitle stands where a catalogue title would for the notice that is no fault.
const gapTitle = "Messages were dropped because the peer reads too slowly."

// Envelope tells a peer about one fault in its own dialect. It is immutable.
type Envelope struct {
	ContentType string            // media type of an HTTP answer; informative on WebSocket
	Recipient   hostabi.Recipient // always ToSender on HTTP
	Status      int               // HTTP status; 0 for Gap
	Close       uint16            // close code when the fault ends the tunnel; 0: none
	Binary      bool              // WebSocket: a binary message

	code  hostabi.FaultCode
	title string
	body  template
}

// Values fill the slots of an envelope (ABI.md §7.2).
type Values struct {
	Code         hostabi.FaultCode // empty: the envelope's own
	Message      string            // what happened, measured and allowed; empty: the title
	Retryable    bool
	RetryAfterMS int64    // milliseconds; at most 0: absent
	Limit        int64    // what is allowed; below 0: absent
	Actual       int64    // what was measured; below 0: absent
	TraceID      string   // empty: absent
	Count        int64    // messages a gap notice stands for; at most 0: absent
	Key          []byte   // event key of the refused message; nil: absent
	Fields       [][]byte // raw JSON of View.Keep, in its order; empty: absent
	Status       int      // HTTP status; 0: the envelope's
}

// Append appends the filled envelope to dst: without what may be long if it would
// exceed hostabi.MaxEnvelope with it. It calls no guest and allocates nothing but the
// growth of dst.
func (e *Envelope) Append(dst []byte, v *Values) []byte {
	if e == nil {
		return dst
	}
	if filled, ok := e.body.append(dst, e, v); ok {
		return filled
	}
	short := *v
	short.Message, short.Key, short.Fields = "", nil, nil
	dst, _ = e.body.append(dst, e, &short) // all that is left is short
	return dst
}

// faultRow is the catalogue's row of c, with one for Gap.
func faultRow(c hostabi.FaultCode) hostabi.Fault {
	if c == hostabi.Gap {
		return hostabi.Fault{Code: c, Title: gapTitle}
	}
	row, ok := hostabi.Lookup(c)
	if !ok { // a code from elsewhere: shown as what failed to name it
		row, _ = hostabi.Lookup(hostabi.PolicyFailed)
		row.Code = c
	}
	return row
}

// builtin returns the native envelope of c; nil for Gap, which has none.
func builtin(c hostabi.FaultCode, t hostabi.Transport) *Envelope {
	if c == hostabi.Gap {
		return nil
	}
	row := faultRow(c)
	e := &Envelope{ContentType: hostabi.ProblemType, Status: row.Status, Close: row.Close, code: c, title: row.Title, body: nativeBody[t&1]}
	if t == hostabi.WebSocket {
		e.ContentType = hostabi.JSONType
	}
	return e
}

// The native envelopes by transport (ABI.md §7.3).
var (
	nativeText = [2]string{hostabi.HTTP: hostabi.ProblemTemplate, hostabi.WebSocket: hostabi.EventTemplate}
	nativeBody = [2]template{mustCompile(nativeText[0]), mustCompile(nativeText[1])}
)

func mustCompile(text string) template {
	t, err := compileTemplate(text, nil)
	if err != nil {
		panic(err)
	}
	return t
}

// newEnvelope checks a policy's answer for (c, t) and makes the envelope of it. One
// without a template is the native one; nil for a Gap: no notice.
func newEnvelope(c hostabi.FaultCode, t hostabi.Transport, out *hostabi.ErrorOutput, keep []string, compile func(string) (template, error)) (*Envelope, error) {
	text := out.Template
	if text == "" {
		if c == hostabi.Gap {
			return nil, nil
		}
		text = nativeText[t&1]
	}
	row := faultRow(c)
	e := &Envelope{
		ContentType: out.ContentType, Recipient: out.Recipient, Binary: out.Binary,
		Status: cmp.Or(int(out.Status), row.Status), Close: cmp.Or(out.Close, row.Close),
		code: c, title: row.Title,
	}
	var err error
	if e.body, err = compile(text); err != nil {
		return nil, err
	}
	if t == hostabi.HTTP {
		e.Recipient = hostabi.ToSender
		e.ContentType = cmp.Or(e.ContentType, hostabi.ProblemType)
	}
	if e.Status != 0 && !bodyStatus(e.Status) {
		return nil, fmt.Errorf("status %d cannot carry an envelope; wanted 200 to 599 without 204, 205 and 304", e.Status)
	}
	if e.Close != 0 && !closeSendable(e.Close) {
		return nil, fmt.Errorf("close code %d may not be sent (RFC 6455 §7.4)", e.Close)
	}
	if !e.Binary && !utf8.ValidString(text) {
		return nil, errors.New("template is not UTF-8 and not marked as binary")
	}
	isJSON, err := jsonMedia(e.ContentType)
	if err != nil {
		return nil, err
	}
	if e.ContentType == "" && !e.Binary { // a WebSocket message says no media type
		isJSON = strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
	}
	if !isJSON {
		return e, nil
	}
	return e, e.checkJSON(len(keep))
}

// checkJSON fills the template with every slot present and with every optional
// one absent: both must be JSON.
func (e *Envelope) checkJSON(keep int) error {
	fields := make([][]byte, keep)
	for i := range fields {
		fields[i] = []byte(`"sample"`)
	}
	full := Values{
		Message: "a \"sample\" \\ of\x00\xff text", Retryable: true, RetryAfterMS: 1,
		Limit: 0, Actual: 0, // behind any other number a template could go on with a digit
		TraceID: "0af7651916cd43dd8448eb211c80319c", Count: 1, Key: []byte("a:b"), Fields: fields,
	}
	for _, sample := range []struct {
		name string
		Values
	}{{"with every slot filled", full}, {"with every optional slot absent", Values{Limit: -1, Actual: -1}}} {
		if b := e.Append(nil, &sample.Values); !json.Valid(b) || !utf8.Valid(b) { // RFC 8259 §8.1
			return fmt.Errorf("template is not JSON %s (content type %q): %.300s", sample.name, e.ContentType, b)
		}
	}
	return nil
}

// bodyStatus tells whether an HTTP answer of this status may have a body and
// is final (RFC 9110 §6.4.1).
func bodyStatus(s int) bool {
	return s >= 200 && s <= 599 && s != 204 && s != 205 && s != 304
}

// closeSendable tells whether a close frame may carry code (RFC 6455 §7.4).
func closeSendable(code uint16) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code == 1004, code == 1005, code == 1006:
		return false
	}
	return code >= 1000 && code <= 1014
}

// jsonMedia tells whether a media type is JSON (RFC 6839 §3.1); "" is not.
func jsonMedia(contentType string) (bool, error) {
	if contentType == "" {
		return false, nil
	}
	m, _, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(m, "/") || strings.ContainsFunc(contentType, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return false, fmt.Errorf("content type %q is not a media type", contentType)
	}
	return m == hostabi.JSONType || m == "text/json" || strings.HasSuffix(m, "+json"), nil
}

// Envelope returns the envelope for a fault: of a message in direction d, or
// over HTTP, where d means nothing. It is nil only for Gap without a notice. Nobody
// waits for the guest: what is asked for again is there for those who come later.
func (v *View) Envelope(c hostabi.FaultCode, t hostabi.Transport, d hostabi.Direction) *Envelope {
	i, l := indexOf(c), legOf(t, d)
	s := &v.envelopes[i*int(numLegs)+int(l)]
	if s.due(v.policy) {
		v.policy.beside(func() { s.set(v.resolve(codeAt(i), l)) })
	}
	return s.value.Load()
}

// resolve asks the guest for an envelope. What it answers holds for the
// generation; after a failure the built-in one stands in for a while.
func (v *View) resolve(c hostabi.FaultCode, l leg) (*Envelope, int64) {
	e := builtin(c, l.transport())
	if !v.asks(hostabi.ErrorHook) || !hasEnvelope(c, l) {
		return e, 0
	}
	var asked *Envelope
	err := v.policy.patiently(patience, func() (err error) {
		asked, err = v.policy.envelope(v.route, c, l)
		return err
	})
	if err != nil {
		return e, nanos(v.policy.now().Add(faultTTL))
	}
	return asked, 0
}

// envelope asks the guest for an envelope and checks it.
func (p *Policy) envelope(route string, c hostabi.FaultCode, l leg) (*Envelope, error) {
	in := hostabi.ErrorInput{Route: route, Code: c, Transport: l.transport(), Direction: l.direction()}
	var out hostabi.ErrorOutput
	var e *Envelope
	a, err := p.ask(nil, hostabi.ErrorHook, &in, &out, func() (err error) {
		e, err = newEnvelope(c, l.transport(), &out, p.shape.Keep, p.template)
		return err
	})
	if err == nil && !a.opinion {
		e = builtin(c, l.transport())
	}
	return e, err
}

// hasEnvelope tells whether there can be one: a notice of a gap stands between
// messages only.
func hasEnvelope(c hostabi.FaultCode, l leg) bool { return c != hostabi.Gap || l != legHTTP }
