package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Error is one thing wrong with a configuration.
type Error struct {
	File    string // as the operator named it
	Line    int    // from 1; 0: the file as a whole
	Key     string // full path, such as route[1].limits.max_inbox; may be empty
	Message string

	cause error // of a file that cannot be read
}

// Unwrap returns why a file cannot be read, nil for any other problem.
func (e Error) Unwrap() error { return e.cause }

// Error returns "file:line: key: message" without what is unknown. It is one line:
// what cannot be seen, as a module's names or a key may have, becomes spaces.
func (e Error) Error() string {
	at := e.File
	if e.Line > 0 {
		at += ":" + strconv.Itoa(e.Line)
	}
	parts := []string{at, e.Key, e.Message}
	line := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, line)
}

// Errors is every problem that was found, in the order of the file.
type Errors []Error

// Error returns one problem per line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

// At is a problem with a key, such as "policy", "standard", "module", that was
// found only when something was made of the configuration.
func (c *Config) At(message string, key ...string) Error {
	path := ""
	for _, k := range key {
		path = join(path, k)
	}
	return Error{File: c.Path, Line: c.lines.of(path), Key: path, Message: message}
}

// With returns all problems of both, in the order of the file.
func (es Errors) With(more Errors) Errors {
	all := slices.Concat(es, more)
	all.sort()
	return all
}

// sort puts the problems in the order of the file.
func (es Errors) sort() {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
}
