package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sizeUnits are what may stand behind a number of bytes, largest first in
// each family, binary before decimal.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// parseSize reads a number of bytes: "16MiB", "64KiB", "1GB", "512B" or "512".
// KiB, MiB, GiB and TiB are powers of 1024; kB, MB, GB and TB of 1000.
func parseSize(s string) (int64, error) {
	end := 0
	if strings.HasPrefix(s, "-") {
		end = 1
	}
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	number, unit := s[:end], strings.TrimPrefix(s[end:], " ")
	if number == "" || number == "-" {
		return 0, fmt.Errorf(`%q is not a size; write one such as "16MiB", "64KiB" or "1GB"`, s)
	}
	if strings.HasPrefix(unit, ".") {
		return 0, fmt.Errorf("%q is not a whole number; write it in the next smaller unit", s)
	}
	scale, err := sizeUnit(s, unit)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/scale || n < math.MinInt64/scale {
		return 0, fmt.Errorf("%q is more bytes than can be counted", s)
	}
	return n * scale, nil
}

// sizeUnit returns the bytes in one unit of the size s.
func sizeUnit(s, unit string) (int64, error) {
	if unit == "" {
		return 1, nil
	}
	for _, u := range sizeUnits {
		if u.name == unit {
			return u.bytes, nil
		}
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, unit) || strings.EqualFold(strings.TrimSuffix(u.name, "iB"), unit) {
			return 0, fmt.Errorf("%q has the unit %q; did you mean %s?", s, unit, u.name)
		}
	}
	return 0, fmt.Errorf("%q has the unit %q; known are B, KiB, MiB, GiB, TiB (1024) and kB, MB, GB, TB (1000)", s, unit)
}

// formatSize returns the shortest form of n that parseSize reads back.
func formatSize(n int64) string {
	plain := strconv.FormatInt(n, 10)
	shortest := plain + "B"
	for _, u := range sizeUnits {
		if s := strconv.FormatInt(n/u.bytes, 10) + u.name; n%u.bytes == 0 && len(s) < len(shortest) {
			shortest = s
		}
	}
	if len(plain) < len(shortest) {
		return plain
	}
	return shortest
}
