//go:build e2e

package e2e

import (
	"crypto/sha1"
	"encoding/base64"
	"strings"
)

// field is the value of a header field in a head as it came.
func field(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fields are all of its values.
func fields(head, name string) (all []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			all = append(all, strings.TrimSpace(value))
		}
	}
	return all
}

// accept is the 101 to a handshake.
func accept(head string) string {
	sum := sha1.Sum([]byte(field(head, "Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
}
