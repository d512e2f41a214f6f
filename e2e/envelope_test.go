//go:build e2e

package e2e

import (
	"encoding/json"
	"testing"
)

// problem is Weir's native envelope over HTTP.
type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	Retryable                 bool
	RetryAfterMS              int64 `json:"retry_after_ms"`
	Limit, Actual             int64
	TraceID                   string `json:"trace_id"`
}

func decodeProblem(t *testing.T, body string) (p problem) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return p
}

// wsError is Weir's native envelope on a WebSocket.
type wsError struct {
	Type  string
	Error struct {
		Code, Message string
		Retryable     bool
		Limit, Actual int64
		TraceID       string `json:"trace_id"`
	}
}

func decodeError(t *testing.T, text string) (e wsError) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil || e.Type != "error" {
		t.Fatalf("%q is no envelope: %v", text, err)
	}
	return e
}
