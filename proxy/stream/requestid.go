package stream

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"weir/proxy/http1"
)

// Lengths of a W3C traceparent (Trace Context §3.2).
const (
	traceparentLen = 55 // version 00: "00-" trace "-" parent "-" flags
	traceStart     = 3
	traceEnd       = 35
)

// maxRequestID bounds a client's X-Request-Id: it stands in logs and envelopes.
const maxRequestID = 128

// RequestID names one request: to the upstream, in envelopes and in logs.
type RequestID struct {
	traceparent [traceparentLen]byte
	request     [maxRequestID]byte
	n           int  // bytes of request
	passed      bool // traceparent is the client's
}

// NewRequestID is Take with memory of its own.
func NewRequestID(h *http1.Request, trusted bool) *RequestID {
	id := new(RequestID)
	id.Take(h, trusted)
	return id
}

// Take takes the ids of the request with the head h, or makes what is missing or
// malformed. Anyone may name a trace. From an untrusted peer an
// X-Request-Id must be at most 128 letters, digits and -._~:+/=@; a trusted one
// may use any visible ASCII.
func (id *RequestID) Take(h *http1.Request, trusted bool) {
	id.n, id.passed = 0, false
	traces, requests := 0, 0
	for _, f := range h.Fields() {
		switch {
		case foldEqual(f.Name, "traceparent"):
			if traces++; validTraceparent(f.Value) {
				copy(id.traceparent[:], f.Value)
				id.passed = true
			}
		case foldEqual(f.Name, "x-request-id"):
			if requests++; validRequestID(f.Value, trusted) {
				id.n = copy(id.request[:], f.Value)
			}
		}
	}
	if id.passed = id.passed && traces == 1; !id.passed {
		makeTraceparent(&id.traceparent)
	}
	if id.n == 0 || requests > 1 {
		id.n = hex.EncodedLen(16)
		randomHex(id.request[:id.n])
	}
}

// TraceID is the trace's id, 32 hex digits: the one in envelopes and logs.
func (id *RequestID) TraceID() string { return string(id.traceparent[traceStart:traceEnd]) }

// String is the X-Request-Id.
func (id *RequestID) String() string { return string(id.request[:id.n]) }

// validTraceparent checks b as strictly as Trace Context §3.2.2 does: lower
// case, no zero ids, nothing behind version 00.
func validTraceparent(b []byte) bool {
	if len(b) < traceparentLen || b[2] != '-' || b[traceEnd] != '-' || b[52] != '-' {
		return false
	}
	version, trace, parent, flags := b[:2], b[traceStart:traceEnd], b[36:52], b[53:55]
	if !lowerHex(version) || !lowerHex(trace) || !lowerHex(parent) || !lowerHex(flags) {
		return false
	}
	if allZero(trace) || allZero(parent) || string(version) == "ff" {
		return false
	}
	if string(version) == "00" {
		return len(b) == traceparentLen
	}
	return len(b) == traceparentLen || b[traceparentLen] == '-'
}

func lowerHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != '0' {
			return false
		}
	}
	return true
}

// makeTraceparent begins a trace that nobody has asked to record: flags 00.
func makeTraceparent(b *[traceparentLen]byte) {
	copy(b[:], "00-")
	randomHex(b[traceStart:traceEnd])
	b[traceEnd] = '-'
	randomHex(b[36:52])
	copy(b[52:], "-00")
}

// randomHex fills b, of 16 hex digits or a multiple, and never with zeroes
// only. The ids name, they keep no secret.
func randomHex(b []byte) {
	for ; len(b) >= 16; b = b[16:] {
		var raw [8]byte
		binary.BigEndian.PutUint64(raw[:], rand.Uint64()|1)
		hex.Encode(b, raw[:])
	}
}

func validRequestID(b []byte, trusted bool) bool {
	if len(b) == 0 || len(b) > maxRequestID {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == ':', c == '+', c == '/', c == '=', c == '@':
		case trusted && c > ' ' && c < 0x7f:
		default:
			return false
		}
	}
	return true
}
