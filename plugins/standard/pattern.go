package main

import "strings"

// exact tells whether a pattern names one event key; the others end in "*" and
// match every key that begins with what stands before it.
func exact(pattern string) bool { return !strings.HasSuffix(pattern, "*") }

func matches(pattern, key string) bool {
	if exact(pattern) {
		return pattern == key
	}
	return strings.HasPrefix(key, pattern[:len(pattern)-1])
}

// byKey are settings by pattern.
type byKey[T any] []struct {
	pattern string
	value   T
}

func (l *byKey[T]) add(pattern string, v T) {
	*l = append(*l, struct {
		pattern string
		value   T
	}{pattern, v})
}

// get returns the value of the most specific pattern that matches key: the key
// itself, else the longest.
func (l byKey[T]) get(key string) (v T) {
	best := -1
	for _, e := range l {
		if !matches(e.pattern, key) {
			continue
		}
		if exact(e.pattern) {
			return e.value
		}
		if len(e.pattern) > best {
			best, v = len(e.pattern), e.value
		}
	}
	return v
}
