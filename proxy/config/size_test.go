package config

import (
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	f := func(s string, want int64) {
		t.Helper()
		if n, err := parseSize(s); err != nil || n != want {
			t.Errorf("%q: %d, %v; want %d", s, n, err, want)
		}
	}
	f("0", 0)
	f("512", 512)
	f("512B", 512)
	f("64KiB", 64<<10)
	f("16MiB", 16<<20)
	f("16 MiB", 16<<20)
	f("1GiB", 1<<30)
	f("2TiB", 2<<40)
	f("1kB", 1000)
	f("1KB", 1000)
	f("100MB", 100_000_000)
	f("1GB", 1_000_000_000)
	f("1TB", 1_000_000_000_000)
	f("-16MiB", -16<<20)
	f("9223372036854775807", 1<<63-1)
	f("8388607TiB", 8388607<<40)
}

func TestParseSizeRefuses(t *testing.T) {
	for _, s := range []string{
		"", "-", "MiB", "1.5GiB", "1e6", "16mib", "16M", "1  MiB", " 1MiB", "1MiB ", "+1", "0x10",
		"9223372036854775808", "8388608TiB", "1PiB", "1_000", "١MiB",
	} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q: accepted as %d", s, n)
		}
	}
}

func TestFormatSize(t *testing.T) {
	f := func(n int64, want string) {
		t.Helper()
		if got := formatSize(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	f(0, "0")
	f(1, "1")
	f(1000, "1kB")
	f(1024, "1KiB")
	f(16<<20, "16MiB")
	f(100_000_000, "100MB")
	f(10_000_000_000, "10GB")
	f(-1<<20, "-1MiB")
	f(1<<20+1, "1048577")
}

func TestParseDuration(t *testing.T) {
	if d, err := parseDuration("1m30s"); err != nil || d != 90*time.Second {
		t.Errorf("%v, %v", d, err)
	}
	for _, s := range []string{"", "5", "0", "5 s", "5d", "s"} {
		if d, err := parseDuration(s); err == nil {
			t.Errorf("%q: accepted as %v", s, d)
		}
	}
}

// FuzzSize holds that what is accepted is written and read back the same.
func FuzzSize(f *testing.F) {
	for _, s := range []string{"16MiB", "64 KiB", "1GB", "512", "-1", "1.5GiB", "9223372036854775807", "1m30s", "-5s", "0.1us"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil {
			back, err := parseSize(formatSize(n))
			if err != nil || back != n {
				t.Errorf("%q is %d, written %q, read back as %d, %v", s, n, formatSize(n), back, err)
			}
		}
		if d, err := parseDuration(s); err == nil {
			back, err := parseDuration(d.String())
			if err != nil || back != d {
				t.Errorf("%q is %d, written %v, read back as %d, %v", s, d, d, back, err)
			}
		}
	})
}
