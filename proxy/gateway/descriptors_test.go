package gateway

import (
	"math"
	"strings"
	"testing"

	"weir/proxy/config"
)

func TestFilesNeeded(t *testing.T) {
	f := func(maxConnections int, want uint64) {
		t.Helper()
		if got := filesNeeded(maxConnections); got != want {
			t.Errorf("%d connections need %d files, want %d", maxConnections, got, want)
		}
	}
	f(config.Unlimited, 0)
	f(1, 130)
	f(10_000, 20_128)
}

func TestTooFewFilesAreToldAtTheStart(t *testing.T) {
	if n, ok := fileLimit(); !ok || n > math.MaxInt32 {
		t.Skip("there is no limit")
	}
	for most, want := range map[string]bool{"2147483647": true, "1": false} {
		r := start(t, plainRoute+"[limits]\nmax_connections = "+most+"\n")
		until(t, "it has started", func() bool { return strings.Contains(r.logs.String(), `"ready"`) })
		if told := strings.Contains(r.logs.String(), "raise LimitNOFILE"); told != want {
			t.Errorf("max_connections %s: %s", most, r.logs)
		}
	}
}
