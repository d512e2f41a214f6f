package gateway

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"weir/proxy/config"
)

func TestFilesNeeded(t *testing.T) {
	f := func(maxConnections int, want uint64) {
		t.Helper()
		if got := filesNeeded(maxConnections, ownFiles(8)); got != want {
			t.Errorf("%d connections need %d files, want %d", maxConnections, got, want)
		}
	}
	f(config.Unlimited, 0)
	f(1, 130)
	f(10_000, 20_128)
	if got := filesNeeded(1, ownFiles(64)); got != 242 {
		t.Errorf("a connection beside 64 loops needs %d files, want 242", got)
	}
}

func TestClientsLeaveDescriptorsToOthers(t *testing.T) {
	f := func(files uint64, want int) {
		t.Helper()
		if got := mostClients(files, 128); got != want {
			t.Errorf("%d clients with %d files, want %d", got, files, want)
		}
	}
	f(0, 0)
	f(129, 0)
	f(130, 1)
	f(1024, 448)
	f(20_128, 10_000)
	f(math.MaxUint64, math.MaxInt/2)
	g := &Gateway{mostClients: 448}
	for limit, want := range map[int]int{config.Unlimited: 448, 10_000: 448, 100: 100} {
		if got := g.maxConnections(limit); got != want {
			t.Errorf("max_connections %d is %d, want %d", limit, got, want)
		}
	}
}

func TestReloadTellsOfTooFewFiles(t *testing.T) {
	have, ok := fileLimit()
	r := start(t, plainRoute+"[limits]\nmax_connections = 1\n")
	r.write(fmt.Sprintf("%s[limits]\nmax_connections = %d\n", plainRoute, math.MaxInt32))
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	want := ok && have < filesNeeded(math.MaxInt32, ownFiles(r.g.howManyLoops()))
	if told := strings.Contains(r.logs.String(), "raise LimitNOFILE"); told != want {
		t.Errorf("with %d files: told is %v\n%s", have, told, r.logs)
	}
}

func TestTooFewFilesAreToldAtTheStart(t *testing.T) {
	have, ok := fileLimit()
	for _, most := range []int{math.MaxInt32, 1} {
		r := start(t, fmt.Sprintf("%s[limits]\nmax_connections = %d\n", plainRoute, most))
		until(t, "it has started", func() bool { return strings.Contains(r.logs.String(), `"ready"`) })
		want := ok && have < filesNeeded(most, ownFiles(r.g.howManyLoops()))
		if told := strings.Contains(r.logs.String(), "raise LimitNOFILE"); told != want {
			t.Errorf("max_connections %d with %d files: told is %v\n%s", most, have, told, r.logs)
		}
	}
}
