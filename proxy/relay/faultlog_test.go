package relay

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

// toldFaults runs f in a bubble with a FaultLog and returns its lines.
func toldFaults(t *testing.T, f func(l *FaultLog)) (lines []string) {
	synctest.Test(t, func(*testing.T) {
		var b bytes.Buffer
		l := NewFaultLog(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
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
func refused(l *FaultLog, n int, code hostabi.FaultCode) (lines, suppressed int64) {
	for range n {
		if n, ok := l.Allow(time.Now(), code); ok {
			lines++
			suppressed += n
		}
	}
	return lines, suppressed
}

func TestSuppressedFaultsAreToldWhenTheFloodIsOver(t *testing.T) {
	lines := toldFaults(t, func(l *FaultLog) {
		for range 2 {
			if n, _ := refused(l, 20_000, hostabi.PayloadTooLarge); n != faultsAtOnce {
				t.Errorf("%d lines at once", n)
			}
			time.Sleep(faultsTold)
			synctest.Wait()
			time.Sleep(time.Hour)
		}
	})
	want := fmt.Sprintf(`msg="faults suppressed" code=payload_too_large suppressed=%d`, 20_000-faultsAtOnce)
	if len(lines) != 2 || lines[0] != want || lines[1] != want {
		t.Errorf("told %q", lines)
	}
}

func TestSuppressedFaultsAreToldAtShutdown(t *testing.T) {
	lines := toldFaults(t, func(l *FaultLog) {
		refused(l, faultsAtOnce+3, hostabi.NoRoute)
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
	last := toldFaults(t, func(l *FaultLog) {
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
	if most := int64(faultsAtOnce + rounds/10*faultLines + 1); lines+int64(len(last)) > most {
		t.Errorf("%d lines and %d of what was suppressed, at most %d are allowed", lines, len(last), most)
	}
}

func TestAFloodOfOneFaultHidesNoOther(t *testing.T) {
	lines := toldFaults(t, func(l *FaultLog) {
		refused(l, 1000, hostabi.PayloadTooLarge)
		if n, suppressed := refused(l, faultsAtOnce, hostabi.UpstreamUnavailable); n != faultsAtOnce || suppressed != 0 {
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
	lines := toldFaults(t, func(l *FaultLog) {
		for i := range 1000 {
			l.Allow(time.Now(), hostabi.FaultCode(fmt.Sprint(i)))
		}
		if len(l.kinds) != faultKinds {
			t.Errorf("%d kinds", len(l.kinds))
		}
		l.Close()
	})
	if len(lines) != 1 || lines[0] != fmt.Sprintf(`msg="faults suppressed" code=other suppressed=%d`, 1000-(faultKinds-1)-faultsAtOnce) {
		t.Errorf("told %q", lines)
	}
}
