package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Bounds of what a ceiling may be set to.
const (
	maxSize     = 1 << 40              // 1 TiB: the drain ceiling is 64 times as much, and still counts in an int64
	maxCount    = math.MaxInt32        // messages, connections
	maxDuration = 365 * 24 * time.Hour // twice as much still adds to any clock
	minDuration = time.Millisecond     // below it nothing could ever finish in time
)

// none is how an optional ceiling is switched off.
const none = "none"

// limitKey is one key of a limits table.
type limitKey struct {
	name     string
	optional bool              // "none" is allowed
	most     int64             // of a size, when less than maxSize
	field    func(*Limits) any // *int64: a size; *int: a count; *time.Duration; *bool
	own      func(*Own) *bool  // of a process-wide ceiling
}

// limitKeys are the keys of [limits] and of a route's limits.
var limitKeys = []limitKey{
	{name: "max_message_size", field: func(l *Limits) any { return &l.MaxMessageSize }},
	{name: "max_body_size", field: func(l *Limits) any { return &l.MaxBodySize }},
	{name: "max_frame_size", most: math.MaxUint32, field: func(l *Limits) any { return &l.MaxFrameSize }},
	{name: "max_buffered_bytes", field: func(l *Limits) any { return &l.MaxBufferedBytes }},
	{name: "max_inbox", field: func(l *Limits) any { return &l.MaxInbox }},
	{name: "max_pending_bytes", field: func(l *Limits) any { return &l.MaxPendingBytes }},
	{
		name: "max_connections", optional: true,
		field: func(l *Limits) any { return &l.MaxConnections },
		own:   func(o *Own) *bool { return &o.MaxConnections },
	},
	{
		name: "max_connections_per_ip", optional: true,
		field: func(l *Limits) any { return &l.MaxConnectionsPerIP },
		own:   func(o *Own) *bool { return &o.MaxConnectionsPerIP },
	},
	{
		name: "max_memory", optional: true,
		field: func(l *Limits) any { return &l.MaxMemory },
		own:   func(o *Own) *bool { return &o.MaxMemory },
	},
	{name: "message_rate", optional: true, field: func(l *Limits) any { return &l.MessageRate }},
	{name: "message_burst", field: func(l *Limits) any { return &l.MessageBurst }},
	{name: "handshake_timeout", field: func(l *Limits) any { return &l.HandshakeTimeout }},
	{name: "idle_timeout", field: func(l *Limits) any { return &l.IdleTimeout }},
	{name: "write_timeout", field: func(l *Limits) any { return &l.WriteTimeout }},
	{name: "ping_interval", optional: true, field: func(l *Limits) any { return &l.PingInterval }},
	{name: "slow_consumer_grace", field: func(l *Limits) any { return &l.SlowConsumerGrace }},
	{name: "validate_utf8", field: func(l *Limits) any { return &l.ValidateUTF8 }},
}

// limits reads a limits table over the values in l, and marks in own which
// process-wide ceilings it sets. MessageBurst stays 0 unless it is written.
func (t *table) limits(l *Limits, own *Own) {
	for _, k := range limitKeys {
		switch dst := k.field(l).(type) {
		case *int64:
			t.size(k.name, dst, k.optional, k.most)
		case *int:
			t.count(k.name, dst, k.optional)
		case *time.Duration:
			t.duration(k.name, dst, k.optional)
		case *bool:
			t.truth(k.name, dst)
		}
		if k.own != nil {
			*k.own(own) = t.has(k.name)
		}
	}
	t.done()
}

// rated tells whether the limits at path have a message_rate, or were to have one.
func (d *decoder) rated(path string, l *Limits) bool {
	return l.MessageRate != Unlimited || d.failed(join(path, "message_rate"))
}

// settle fills in the burst that follows from the rate.
func (l *Limits) settle() {
	switch {
	case l.MessageRate == Unlimited:
		l.MessageBurst = Unlimited
	case l.MessageBurst == Unlimited:
		l.MessageBurst = max(l.MessageRate, 1)
	}
}

// size reads a number of bytes of at least 1; most 0 stands for maxSize.
func (t *table) size(key string, dst *int64, optional bool, most int64) {
	if most == 0 {
		most = maxSize
	}
	wanted := `a size such as "16MiB", or a number of bytes`
	var n int64
	switch v := t.get(key).(type) {
	case nil:
		return
	case int64:
		n = v
	case string:
		if optional && v == none {
			*dst = Unlimited
			return
		}
		var err error
		if n, err = parseSize(v); err != nil {
			t.fail(t.at(key), "%v", unreadable(err, v, optional))
			return
		}
	default:
		t.want(t.at(key), wanted+orNone(optional), v)
		return
	}
	if t.within(key, n, 1, most, optional, formatSize) {
		*dst = n
	}
}

// count reads a number of at least 1.
func (t *table) count(key string, dst *int, optional bool) {
	v := t.get(key)
	if v == nil {
		return
	}
	if optional && v == none {
		*dst = Unlimited
		return
	}
	n, ok := v.(int64)
	if !ok {
		t.want(t.at(key), "a whole number"+orNone(optional), v)
		return
	}
	if t.within(key, n, 1, maxCount, optional, func(n int64) string { return strconv.FormatInt(n, 10) }) {
		*dst = int(n)
	}
}

// duration reads a time of at least minDuration.
func (t *table) duration(key string, dst *time.Duration, optional bool) {
	v := t.get(key)
	if v == nil {
		return
	}
	s, ok := v.(string)
	switch {
	case !ok:
		t.want(t.at(key), `a duration with its unit, such as "5s"`+orNone(optional), v)
		return
	case optional && s == none:
		*dst = Unlimited
		return
	}
	d, err := parseDuration(s)
	if err != nil {
		t.fail(t.at(key), "%v", unreadable(err, s, optional))
		return
	}
	if t.within(key, int64(d), int64(minDuration), int64(maxDuration), optional, formatDuration) {
		*dst = d
	}
}

// truth reads true or false.
func (t *table) truth(key string, dst *bool) {
	switch v := t.get(key).(type) {
	case nil:
	case bool:
		*dst = v
	default:
		t.want(t.at(key), "true or false", v)
	}
}

// parseDuration reads a time with its unit: "5s", "250ms", "1h30m".
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || s == "0" {
		return 0, fmt.Errorf(`%q is not a duration; write one with its unit, such as "250ms", "5s", "2m" or "1h30m"`, s)
	}
	return d, nil
}

// formatDuration leaves the zero minutes and seconds out of whole hours.
func formatDuration(n int64) string {
	d := time.Duration(n)
	if d%time.Hour == 0 && d != 0 {
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	}
	return d.String()
}

// within reports a ceiling that is negative, zero or outside least to most.
func (t *table) within(key string, n, least, most int64, optional bool, format func(int64) string) bool {
	allowed := fmt.Sprintf("allowed: %s to %s", format(least), format(most)) + orNone(optional)
	switch {
	case n < 0:
		t.fail(t.at(key), "%s is negative; %s", format(n), allowed)
	case n == 0 && optional:
		t.fail(t.at(key), "0 does not switch it off; %s", allowed)
	case n == 0 && least == int64(minDuration):
		t.fail(t.at(key), "0 leaves no time at all; %s", allowed)
	case n == 0:
		t.fail(t.at(key), "0 would let nothing pass; %s", allowed)
	case n < least:
		t.fail(t.at(key), "%s is too little to be kept; %s", format(n), allowed)
	case n > most:
		t.fail(t.at(key), "%s is too much; %s", format(n), allowed)
	default:
		return true
	}
	return false
}

// orNone adds that "none" may be written where it may.
func orNone(optional bool) string {
	if optional {
		return ` or "none"`
	}
	return ""
}

// unreadable turns the complaint about an unreadable value into one about "none"
// where that is what was written or meant.
func unreadable(err error, value string, optional bool) error {
	unlimited := slices.Contains([]string{none, "None", "unlimited", "off", "infinity", "inf", ""}, value)
	switch {
	case unlimited && optional:
		return fmt.Errorf(`%q is not how to write it; write "none" to switch it off`, value)
	case unlimited:
		return fmt.Errorf("%q is not allowed: this limit always holds, raise it instead", value)
	}
	return err
}
