// Package semver tells whether a version lies in a range, as npm's semver does.
//
// Masterminds/semver was tried and not taken: it judges 5.0.1-beta.1 to be in
// ">=5.0.0-beta.15", where npm lets a prerelease in only if a comparator names a
// prerelease of the very same release; and its regular expressions cost a guest
// size and start time.
package semver

import (
	"errors"
	"strconv"
	"strings"
)

// maxLength of a version, and maxNumber of its parts, are npm's.
const (
	maxLength = 256
	maxNumber = 1<<53 - 1
)

// Version is a semantic version (semver.org 2.0.0) without build metadata,
// which orders nothing.
type Version struct {
	release [3]uint64 // major, minor, patch
	pre     string    // prerelease identifiers; empty: a release
}

// Parse reads a version, such as "4.6.0" or "5.0.0-beta.15+build"; a leading
// "v" and space around it are ignored. Partial versions are not ok.
func Parse(s string) (v Version, ok bool) {
	if len(s) > maxLength {
		return v, false
	}
	s = strings.TrimPrefix(strings.Trim(s, " \t"), "v")
	s, build, built := strings.Cut(s, "+")
	if built && !identifiers(build, false) {
		return v, false
	}
	s, pre, prerelease := strings.Cut(s, "-")
	if prerelease && !identifiers(pre, true) {
		return v, false
	}
	v.pre = pre
	if strings.Count(s, ".") != len(v.release)-1 {
		return v, false
	}
	for i := range v.release {
		var p string
		p, s, _ = strings.Cut(s, ".")
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || !numeric(p) || n > maxNumber || len(p) > 1 && p[0] == '0' {
			return v, false
		}
		v.release[i] = n
	}
	return v, true
}

// identifiers checks dotted identifiers; numeric ones of a prerelease have no
// leading zero.
func identifiers(s string, pre bool) bool {
	for more := true; more; {
		var id string
		if id, s, more = strings.Cut(s, "."); id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return false
		}
		if pre && numeric(id) && len(id) > 1 && id[0] == '0' {
			return false
		}
	}
	return true
}

func numeric(s string) bool { return strings.Trim(s, "0123456789") == "" }

// Compare is -1, 0 or 1 as v is before, equal to or after w (semver.org §11).
func (v Version) Compare(w Version) int {
	for i, n := range v.release {
		if m := w.release[i]; n != m {
			return order(n < m)
		}
	}
	if v.pre == "" || w.pre == "" {
		if v.pre == w.pre {
			return 0
		}
		return order(w.pre == "")
	}
	for a, b := v.pre, w.pre; ; {
		var id, other string
		id, a, _ = strings.Cut(a, ".")
		other, b, _ = strings.Cut(b, ".")
		switch {
		case id != other:
			return compareIDs(id, other)
		case a == "" && b == "":
			return 0
		case a == "" || b == "":
			return order(a == "")
		}
	}
}

// compareIDs orders two different identifiers: numeric ones by value and before
// the others, those by ASCII.
func compareIDs(a, b string) int {
	na, nb := numeric(a), numeric(b)
	switch {
	case na && nb && len(a) != len(b): // without leading zeros longer is larger
		return order(len(a) < len(b))
	case na != nb:
		return order(na)
	}
	return order(a < b)
}

func order(less bool) int {
	if less {
		return -1
	}
	return 1
}

// Range is a set of versions: alternatives of comparators that all must hold.
type Range [][]comparator

type comparator struct {
	op string // one of >= <= > < =
	Version
}

// ParseRange reads comparators (>=, <=, >, < or = and a whole version), joined
// by space where all must hold and by || where one alternative must. Shorthands
// (^, ~, x, hyphens, partial versions) are refused.
func ParseRange(s string) (Range, error) {
	var r Range
	for alternative := range strings.SplitSeq(s, "||") {
		fields := strings.Fields(alternative)
		var all []comparator
		for i := 0; i < len(fields); i++ {
			op, version := cutOperator(fields[i])
			if version == "" && op != "" && i+1 < len(fields) { // ">= 1.2.3"
				i++
				version = fields[i]
			}
			v, ok := Parse(version)
			if !ok {
				return nil, errors.New(strconv.Quote(op+version) + " is not a comparator such as >=4.6.0 or <5.0.0-0")
			}
			if op == "" {
				op = "="
			}
			all = append(all, comparator{op, v})
		}
		if len(all) == 0 {
			return nil, errors.New(strconv.Quote(s) + " has an alternative without a comparator")
		}
		r = append(r, all)
	}
	return r, nil
}

func cutOperator(s string) (op, rest string) {
	for _, op := range []string{">=", "<=", ">", "<", "="} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			return op, rest
		}
	}
	return "", s
}

// Contains tells whether v is in the range. A prerelease is only where some
// comparator of the same alternative names a prerelease of its release.
func (r Range) Contains(v Version) bool {
	for _, all := range r {
		if holds(all, v) {
			return true
		}
	}
	return false
}

func holds(all []comparator, v Version) bool {
	named := v.pre == ""
	for _, c := range all {
		n := v.Compare(c.Version)
		var ok bool
		switch c.op {
		case ">=":
			ok = n >= 0
		case "<=":
			ok = n <= 0
		case ">":
			ok = n > 0
		case "<":
			ok = n < 0
		case "=":
			ok = n == 0
		}
		if !ok {
			return false
		}
		named = named || c.pre != "" && c.release == v.release
	}
	return named
}
