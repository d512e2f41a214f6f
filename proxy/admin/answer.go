package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"weir/proxy/config"
)

// answerTimeout is the time an answer may take to be read by its asker. It begins
// when the request is read, and anew with the answer, so that reloads may take theirs;
// net/http/pprof adds the seconds that a profile is asked for.
const answerTimeout = 30 * time.Second

// problem is an RFC 9457 problem document.
type problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Errors []fault `json:"errors,omitempty"`
}

// fault is one of the problems of a refused reload.
type fault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

// answer sends v as indented JSON, for people read it too.
func answer(w http.ResponseWriter, status int, contentType string, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // none of this package's types can fail
		panic(err)
	}
	w.Header().Set("Content-Type", contentType)
	begin(w)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the asker left: nobody to tell
}

// begin gives the rest of the answer answerTimeout. A ResponseWriter without
// deadlines, as in tests, does without.
func begin(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
}

func show(w http.ResponseWriter, v any) { answer(w, http.StatusOK, "application/json", v) }

func refuse(w http.ResponseWriter, status int, detail string, faults ...fault) {
	answer(w, status, "application/problem+json", problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults,
	})
}

// faultsOf lists every problem in err, with its place where that is known.
func faultsOf(err error) (all []fault) {
	switch e := err.(type) {
	case config.Error:
		return []fault{{e.File, e.Line, e.Key, e.Message}}
	case config.Errors:
		for _, one := range e {
			all = append(all, faultsOf(one)...)
		}
		return all
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if one != ErrConflict { // the status says it
				all = append(all, faultsOf(one)...)
			}
		}
		return all
	}
	if es, ok := errors.AsType[config.Errors](err); ok {
		return faultsOf(es)
	}
	if e, ok := errors.AsType[config.Error](err); ok {
		return faultsOf(e)
	}
	return []fault{{Message: err.Error()}}
}
