package gateway

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"weir/proxy/config"
)

// linkLocal returns an address of this machine that means nothing without its zone.
func linkLocal(t *testing.T) netip.Addr {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				return p.Addr().WithZone(i.Name)
			}
		}
	}
	t.Skip("no interface has a link-local IPv6 address")
	return netip.Addr{}
}

func TestTheZoneOfAListenerIsTold(t *testing.T) {
	host := "[" + linkLocal(t).String() + "]:"
	listen := strconv.Quote(host + "0")
	toml := strings.NewReplacer(`"127.0.0.1:0"`, listen, `"none"`, listen+"\ntoken = \"secret\"").Replace(head + plainRoute)
	cfg, err := config.Parse("gateway.toml", []byte(toml))
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(t.Context(), cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	for _, addr := range []net.Addr{g.Addr(), g.AdminAddr()} {
		if !strings.HasPrefix(addr.String(), host) {
			t.Errorf("it listens on %v, want %s…", addr, host)
		}
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}
