package gateway

import (
	"net/netip"
	"testing"
)

func TestWhoseAnAddressIs(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1/32",
		"2001:db8:1:2::3":    "2001:db8:1:2::/64",
		"2001:db8:1:2:3::":   "2001:db8:1:2::/64",
		"2001:db8:1:3::3":    "2001:db8:1:3::/64",
		"fd00::1:2":          "fd00::1:2/128",
		"fe80::1":            "fe80::1/128",
		"::1":                "::1/128",
		"::ffff:192.0.2.1":   "::ffff:192.0.2.1/128",
		"64:ff9b::192.0.2.1": "64:ff9b::c000:201/128",
	} {
		if got := clientOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := clientOf(netip.Addr{}); got.IsValid() { // no address: a connection that is none of the network's
		t.Error(got)
	}
}

func TestANetworkIsOneClient(t *testing.T) {
	c := newClients()
	one, other, elsewhere := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:0:1::1")
	if _, _, ok := c.admit(one, 0, 1); !ok {
		t.Fatal("the first was refused")
	}
	if total, of, ok := c.admit(other, 0, 1); ok {
		t.Error("two addresses of a network got a connection each")
	} else if f := tooMany(other, "", total, of, 0, 1); f.Message != "1 connections are open from 2001:db8::/64, max_connections_per_ip is 1" {
		t.Error(f.Message)
	}
	if _, _, ok := c.admit(elsewhere, 0, 1); !ok {
		t.Error("another network was refused")
	}
	c.remove(one)
	if _, _, ok := c.admit(other, 0, 1); !ok {
		t.Error("refused after the first had left")
	}
}
