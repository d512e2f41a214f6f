package wsframe

// Sequence follows the frames of one direction and holds each to the rules
// that a header alone cannot tell (RFC 6455 §5.1, §5.4, §5.5). The zero value
// follows frames from a server.
type Sequence struct {
	masked    bool // frames of this direction must be masked
	inMessage bool // the last data frame was not its message's final one
}

// NewSequence returns a Sequence for the frames of a client, which must be
// masked, or of a server, which must not be (RFC 6455 §5.1).
func NewSequence(fromClient bool) Sequence { return Sequence{masked: fromClient} }

// Check holds the next frame's header to the protocol and remembers what it
// opens or ends. An error is an *Error with code 1002; the sequence stays as
// it was. No extension is negotiated, so every reserved bit is refused.
func (s *Sequence) Check(h *Header) error {
	if h.RSV != 0 || h.Masked != s.masked || !h.Opcode.known() {
		return s.refuse(h)
	}
	if h.Opcode.IsControl() {
		if !h.Fin || h.Length > MaxControlPayload {
			return s.refuse(h)
		}
		return nil
	}
	if (h.Opcode == Continuation) != s.inMessage {
		return s.refuse(h)
	}
	s.inMessage = !h.Fin
	return nil
}

// InMessage reports whether a fragmented message is open: the next data frame
// must be a continuation.
func (s *Sequence) InMessage() bool { return s.inMessage }

// refuse says what is wrong with h, in the order of Check.
func (s *Sequence) refuse(h *Header) error {
	switch {
	case h.RSV != 0:
		return protocolError("%s frame with reserved bits %03b, no extension was negotiated (RFC 6455 §5.2)", h.Opcode, h.RSV)
	case !h.Opcode.known():
		return protocolError("reserved opcode %#x (RFC 6455 §5.2)", byte(h.Opcode))
	case h.Masked != s.masked && s.masked:
		return protocolError("%s frame of a client is not masked (RFC 6455 §5.1)", h.Opcode)
	case h.Masked != s.masked:
		return protocolError("%s frame of a server is masked (RFC 6455 §5.1)", h.Opcode)
	case h.Opcode.IsControl() && !h.Fin:
		return protocolError("%s frame is fragmented (RFC 6455 §5.5)", h.Opcode)
	case h.Opcode.IsControl():
		return protocolError("%s frame of %d bytes exceeds %d (RFC 6455 §5.5)", h.Opcode, h.Length, MaxControlPayload)
	case s.inMessage:
		return protocolError("%s frame inside a fragmented message (RFC 6455 §5.4)", h.Opcode)
	}
	return protocolError("continuation frame without a message to continue (RFC 6455 §5.4)")
}
