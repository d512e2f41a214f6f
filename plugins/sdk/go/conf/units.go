package conf

import (
	"math"
	"strconv"
)

type unit struct {
	name  string
	scale uint64
}

// sizeUnits are those of gateway.toml, in bytes.
var sizeUnits = []unit{
	{"", 1},
	{"B", 1},
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
}

// durationUnits are those of Go that a policy needs, in milliseconds.
var durationUnits = []unit{{"ms", 1}, {"s", 1000}, {"m", 60_000}, {"h", 3_600_000}}

// Size returns a number of bytes, 1 or more: a number or a string such as
// "64KiB" or "1MB".
func (t *Table) Size(key string, def uint64) uint64 {
	return t.quantity(key, def, `a size such as "64KiB", or a number of bytes`, func(v *value) (uint64, bool) {
		if v.kind != isString && v.kind != isNumber {
			return 0, false
		}
		n, rest, ok := scaled(v.text, sizeUnits)
		return n, ok && rest == "" && n <= math.MaxInt64
	})
}

// Duration returns milliseconds, 1 or more and less than 50 days: a string such
// as "500ms", "1s" or "1m30s".
func (t *Table) Duration(key string, def uint32) uint32 {
	return uint32(t.quantity(key, uint64(def), `a duration such as "500ms", "1s" or "1m30s"`, func(v *value) (uint64, bool) {
		if v.kind != isString {
			return 0, false
		}
		var sum uint64
		for rest := v.text; ; {
			n, after, ok := scaled(rest, durationUnits)
			if sum += n; !ok || n > math.MaxUint32 || sum > math.MaxUint32 {
				return 0, false
			}
			if rest = after; rest == "" {
				return sum, true
			}
		}
	}))
}

// quantity returns what read makes of the value of key, if it is above 0.
func (t *Table) quantity(key string, def uint64, want string, read func(*value) (uint64, bool)) uint64 {
	v := t.get(key)
	if v == nil {
		return def
	}
	n, ok := read(v)
	switch {
	case ok && n > 0:
		return n
	case v.text != "":
		t.Fail(key, strconv.Quote(v.text)+" is not "+want)
	default:
		t.wanted(key, want, v)
	}
	return def
}

// scaled reads one number with its unit off s.
func scaled(s string, units []unit) (n uint64, rest string, ok bool) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	end := digits
	for end < len(s) && (s[end]|0x20 >= 'a' && s[end]|0x20 <= 'z') {
		end++
	}
	n, err := strconv.ParseUint(s[:digits], 10, 64)
	if err != nil {
		return 0, "", false
	}
	for _, u := range units {
		if u.name == s[digits:end] {
			return n * u.scale, s[end:], n <= math.MaxUint64/u.scale
		}
	}
	return 0, "", false
}
