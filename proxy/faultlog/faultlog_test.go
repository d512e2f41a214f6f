package faultlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
)

// told runs f in a bubble with a Log and returns its lines.
func told(t *testing.T, f func(l *Log)) (lines []string) {
	synctest.Test(t, func(*testing.T) {
		var b bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}})))
		f(l)
		synctest.Wait()
		lines = strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	})
	return lines
}

// refused asks n times for a line, and returns how many there are, and how many
// more they stand for.
func refused(l *Log, n int, code hostabi.FaultCode) (lines, suppressed int64) {
	for range n {
		if n, ok := l.Allow(time.Now(), code); ok {
			lines++
			suppressed += n
		}
	}
	return lines, suppressed
}

func TestSuppressedFaultsAreToldWhenTheFloodIsOver(t *testing.T) {
	lines := told(t, func(l *Log) {
		for range 2 {
			if n, _ := refused(l, 20_000, hostabi.PayloadTooLarge); n != atOnce {
				t.Errorf("%d lines at once", n)
			}
			time.Sleep(toldAfter)
			synctest.Wait()
			time.Sleep(time.Hour)
		}
	})
	want := fmt.Sprintf(`msg="faults suppressed" code=payload_too_large suppressed=%d`, 20_000-atOnce)
	if len(lines) != 2 || lines[0] != want || lines[1] != want {
		t.Errorf("told %q", lines)
	}
}

func TestSuppressedFaultsAreToldAtShutdown(t *testing.T) {
	lines := told(t, func(l *Log) {
		refused(l, atOnce+3, hostabi.NoRoute)
		l.Close()
		time.Sleep(time.Hour)
	})
	if len(lines) != 1 || lines[0] != `msg="faults suppressed" code=no_route suppressed=3` {
		t.Errorf("told %q", lines)
	}
}

func TestEveryFaultHasALineOrIsCountedInOne(t *testing.T) {
	const rounds, each = 300, 100
	var lines, suppressed int64
	last := told(t, func(l *Log) {
		for range rounds {
			n, more := refused(l, each, hostabi.InboxFull)
			lines, suppressed = lines+n, suppressed+more
			time.Sleep(100 * time.Millisecond)
		}
		l.Close()
	})
	for _, line := range last {
		var n int64
		if _, err := fmt.Sscanf(line, `msg="faults suppressed" code=inbox_full suppressed=%d`, &n); err != nil {
			t.Fatal(line, err)
		}
		suppressed += n
	}
	if lines+suppressed != rounds*each {
		t.Errorf("%d lines and %d suppressed of %d", lines, suppressed, rounds*each)
	}
	if most := int64(atOnce + rounds/10*perSecond + 1); lines+int64(len(last)) > most {
		t.Errorf("%d lines and %d of what was suppressed, at most %d are allowed", lines, len(last), most)
	}
}

func TestAFloodOfOneFaultHidesNoOther(t *testing.T) {
	lines := told(t, func(l *Log) {
		refused(l, 1000, hostabi.PayloadTooLarge)
		if n, suppressed := refused(l, atOnce, hostabi.UpstreamUnavailable); n != atOnce || suppressed != 0 {
			t.Errorf("%d lines of another code, which stand for %d more", n, suppressed)
		}
		l.Warn(time.Now(), "bad request", "peer", "here")
		l.Close()
	})
	if len(lines) != 2 || lines[0] != `msg="bad request" peer=here suppressed=0` || !strings.Contains(lines[1], "payload_too_large") {
		t.Errorf("told %q", lines)
	}
}

func TestKindsOfFaultsAreBounded(t *testing.T) {
	lines := told(t, func(l *Log) {
		for i := range 1000 {
			l.Allow(time.Now(), hostabi.FaultCode(fmt.Sprint(i)))
		}
		if len(l.kinds) != maxKinds {
			t.Errorf("%d kinds", len(l.kinds))
		}
		l.Close()
	})
	if len(lines) != 1 || lines[0] != fmt.Sprintf(`msg="faults suppressed" code=other suppressed=%d`, 1000-(maxKinds-1)-atOnce) {
		t.Errorf("told %q", lines)
	}
}
