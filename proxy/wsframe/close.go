package wsframe

import (
	"strings"
	"unicode/utf8"
)

// validCloseCode reports whether code may stand in a close frame: 1000–1003,
// 1007–1014, 3000–4999 (RFC 6455 §7.4 and its registry).
func validCloseCode(code uint16) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1014:
		return code <= 1003 || code >= 1007
	}
	return false
}

// ParseClose reads the unmasked payload of a close frame (RFC 6455 §5.5.1). An
// empty one gives CloseNoStatus. An err is an *Error: a payload of one byte, a
// code that may not be sent, or a reason that is not UTF-8.
func ParseClose(payload []byte) (code uint16, reason string, err error) {
	switch len(payload) {
	case 0:
		return CloseNoStatus, "", nil
	case 1:
		return 0, "", protocolError("close payload of 1 byte, a code takes 2 (RFC 6455 §5.5.1)")
	}
	code = uint16(payload[0])<<8 | uint16(payload[1])
	if !validCloseCode(code) {
		return 0, "", protocolError("close code %d may not be sent (RFC 6455 §7.4)", code)
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", &Error{CloseInvalidPayload, "close reason is not UTF-8 (RFC 6455 §5.5.1)"}
	}
	return code, string(payload[2:]), nil
}

// AppendClose appends a close frame. The reason is made UTF-8 and cut at a rune
// boundary to MaxCloseReason bytes. A code that may not be sent, CloseNoStatus
// among them, gives the frame without a payload.
func AppendClose(dst []byte, code uint16, reason string, mask *[4]byte) []byte {
	if !validCloseCode(code) {
		return AppendFrame(dst, Close, mask, nil)
	}
	var buf [MaxControlPayload]byte
	payload := append(buf[:0], byte(code>>8), byte(code))
	payload = append(payload, truncate(strings.ToValidUTF8(reason, "\uFFFD"), MaxCloseReason)...)
	return AppendFrame(dst, Close, mask, payload)
}

// truncate cuts s, which is UTF-8, to at most n bytes at a rune boundary.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
