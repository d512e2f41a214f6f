package wasmhost

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

func TestLogRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now time.Duration
		var lines []string
		l := newLogger(func(_, msg string) { lines = append(lines, msg) }, func() time.Duration { return now })
		for range 10 * logBurst {
			l.say("info", "x")
		}
		if len(lines) != logBurst {
			t.Errorf("%d lines at once, want %d", len(lines), logBurst)
		}
		now += logEvery
		lines = nil
		l.say("info", "y")
		l.say("info", "z")
		if len(lines) != 2 || !strings.Contains(lines[0], "450") || lines[1] != "y" {
			t.Errorf("later: %q", lines)
		}
	})
}

func TestSuppressedLinesAreToldWhenNoOtherComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var lines []string
		l := newLogger(func(_, msg string) {
			if msg != "x" {
				lines = append(lines, msg)
			}
		}, func() time.Duration { return time.Since(began) })
		told := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
				t.Errorf("%s: %q", when, lines)
			}
			lines = nil
		}
		for range logBurst + 7 {
			l.say("info", "x")
		}
		time.Sleep(logTold)
		told("in quiet", "7 log lines")
		time.Sleep(time.Hour)
		for range logBurst + 3 {
			l.say("info", "x")
		}
		l.close()
		told("when closed", "3 log lines")
		time.Sleep(time.Hour)
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                "plain",
		"two\nlines\r\n":       "two lines  ",
		"\x1b[31mred":          " [31mred",
		"über €":               "über €",
		"cut \xe2\x82":         "cut ",
		"bad \xff byte":        "bad   byte",
		"\u0085\u009b":         "  ",
		"\u202eko\u2066\u2028": " ko  ",
		"":                     "",
		"tab\tand nul\x00byte": "tab and nul byte",
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestGuestLogLines(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		g := NewGuest()
		log := g.Importing(hostabi.ImportModule, hostabi.ImportLog, Sig("iii", ""))
		say := func(level, ptr, n int32) []byte { return Join(I32(level), I32(ptr), I32(n), log) }
		g.Hook(hostabi.Admit, Join(
			say(0, Region, 3), say(1, Region, 3), say(2, Region, 3), say(3, Region, 3), say(-1, Region, 3),
			say(1, -1, 3), say(1, Region, -1), // outside memory: dropped
			say(1, Region, 60000), I64(0)))
		var lines []string
		m := load(t, engine, g.Build(), func(o *Options) {
			o.Log = func(level, msg string) {
				if strings.HasPrefix(msg, "guest: ") {
					lines = append(lines, level+" "+msg)
				}
			}
		})
		in := "abc" + strings.Repeat("é", 3000)
		if _, _, err := m.Call(hostabi.Admit, []byte(in), nil); err != nil {
			t.Fatal(err)
		}
		want := []string{"debug guest: abc", "info guest: abc", "warn guest: abc", "error guest: abc", "error guest: abc"}
		if len(lines) != 6 || strings.Join(lines[:5], "|") != strings.Join(want, "|") {
			t.Fatalf("lines are %.200q", lines)
		}
		if last := strings.TrimPrefix(lines[5], "info guest: "); len(last) > hostabi.MaxLogLine || len(last) < hostabi.MaxLogLine-1 || !utf8.ValidString(last) {
			t.Errorf("a long line has %d bytes", len(last))
		}
	})
}

// A thousand vectors of all of memory would take a second: a guest whose time is
// up is ended between two of them.
func TestALongWriteIsEndedInTime(t *testing.T) {
	m := load(t, Interpreter, NewGuest().Build())
	in := <-m.slots
	defer func() { m.slots <- in }()
	for i := range uint32(3) { // vectors of one byte each
		in.memory.WriteUint32Le(8*i, 100+i)
		in.memory.WriteUint32Le(8*i+4, 1)
	}
	in.memory.Write(100, []byte("abc"))
	in.time = newAllowance(0, m.now()-time.Second)
	defer func() {
		if err, _ := recover().(error); err == nil || !in.late || string(in.world.line) != "a" {
			t.Errorf("%q was written, late is %v, the error %v", in.world.line, in.late, err)
		}
	}()
	fdWrite(in, in.memory, []uint64{1, 0, 3, 200})
}
