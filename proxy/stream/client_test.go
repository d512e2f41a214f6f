package stream

import (
	"net"
	"net/netip"
	"testing"

	"weir/proxy/http1"
)

func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, peer string
		fields     []string
		want       string
	}{
		{"a stranger is itself", "192.0.2.1", []string{"X-Forwarded-For: 1.1.1.1"}, "192.0.2.1"},
		{"a trusted proxy that says nothing", "10.0.0.1", nil, "10.0.0.1"},
		{"the client behind one", "10.0.0.1", []string{"X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
		{"what the client claimed itself is not believed", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1, 192.0.2.1"}, "192.0.2.1"},
		{"the client behind two", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1, 192.0.2.1 , 10.0.0.2"}, "192.0.2.1"},
		{"over two lines", "10.0.0.1", []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.2"}, "192.0.2.1"},
		{"all trusted: the first of them", "10.0.0.1", []string{"X-Forwarded-For: 10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"with a port", "10.0.0.1", []string{"X-Forwarded-For: 192.0.2.1:4711"}, "192.0.2.1"},
		{"IPv6", "fd00::1", []string{"X-Forwarded-For: 2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", "fd00::1", []string{"X-Forwarded-For: [2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 with a port", "fd00::1", []string{"X-Forwarded-For: [2001:db8::1]:80"}, "2001:db8::1"},
		{"IPv4 written as IPv6", "10.0.0.1", []string{"X-Forwarded-For: ::ffff:192.0.2.1"}, "192.0.2.1"},
		{"no address ends the search at who said so", "10.0.0.1", []string{"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"garbage", "10.0.0.1", []string{"X-Forwarded-For: ,,"}, "10.0.0.1"},
		{"Forwarded", "10.0.0.1", []string{`Forwarded: for=1.1.1.1, for="192.0.2.1:80";proto=https, For="10.0.0.2"`}, "192.0.2.1"},
		{"Forwarded with IPv6", "10.0.0.1", []string{`Forwarded: proto=http; for="[2001:db8::1]:80"`}, "2001:db8::1"},
		{"a comma in quotes is none", "10.0.0.1", []string{`Forwarded: for=192.0.2.1;host="a,for=1.1.1.1"`}, "192.0.2.1"},
		{"an element without for", "10.0.0.1", []string{`Forwarded: for=192.0.2.1, proto=http`}, "10.0.0.1"},
		{"a quote that does not end hides what a proxy appended", "10.0.0.1", []string{`Forwarded: for=1.1.1.1;x=", for=192.0.2.1`}, "10.0.0.1"},
		{"one that is escaped does not end it", "10.0.0.1", []string{`Forwarded: for=1.1.1.1;x="\", for=192.0.2.1`}, "10.0.0.1"},
		{"nor hides it another line", "10.0.0.1", []string{`Forwarded: for=1.1.1.1;x="`, `Forwarded: for=192.0.2.1;x=""`}, "192.0.2.1"},
		{"X-Forwarded-For comes first", "10.0.0.1", []string{"Forwarded: for=1.1.1.1", "X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
	} {
		h := head(t, append([]string{"Host: a"}, c.fields...)...)
		if got, _ := clientAddr(netip.MustParseAddr(c.peer), h, trusted); got.String() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestBothNotationsNameOneClient: most proxies write X-Forwarded-For and pass on what
// a client says in Forwarded, which an upstream may prefer.
func TestBothNotationsNameOneClient(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	const own = "for=10.0.0.1;host=a;proto=http"
	for _, c := range []struct {
		name, forwarded string
		want            string
	}{
		{"another client", "for=1.1.1.1;host=evil", "for=192.0.2.1, " + own},
		{"another behind a proxy", "for=1.1.1.1, for=10.0.0.2", "for=192.0.2.1, " + own},
		{"the same", `for="192.0.2.1:80";proto=https`, `for="192.0.2.1:80";proto=https, ` + own},
		{"nobody", "proto=https", "proto=https, " + own},
		{"nobody by name", "for=_hidden", "for=_hidden, " + own},
		{"only trusted ones", "for=10.0.0.2", "for=192.0.2.1, " + own},
	} {
		src := head(t, "Host: a", "X-Forwarded-For: 192.0.2.1, 10.0.0.2", "Forwarded: "+c.forwarded)
		from := ClientOf(peerConn{addr: "10.0.0.1:80"}, src, trusted)
		out := forward(t, src, forwarding{Client: from, ID: NewRequestID(src, true)})
		if got := string(out.Get("forwarded")); got != c.want {
			t.Errorf("%s: Forwarded is %q, want %q", c.name, got, c.want)
		}
		if got := string(out.Get("x-forwarded-for")); got != "192.0.2.1, 10.0.0.2, 10.0.0.1" {
			t.Errorf("%s: X-Forwarded-For is %q", c.name, got)
		}
	}
}

// TestXRealIPNamesTheClient: a proxy that writes X-Forwarded-For alone passes on what a
// client says in X-Real-IP, which an upstream may believe.
func TestXRealIPNamesTheClient(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		name, fields string
		want         string
	}{
		{"another client", "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 1.1.1.1", ""},
		{"another beside Forwarded", "Forwarded: for=192.0.2.1\r\nX-Real-IP: 1.1.1.1", ""},
		{"with underscores", "X-Forwarded-For: 192.0.2.1\r\nX_Real_IP: 1.1.1.1", ""},
		{"no address", "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: localhost", ""},
		{"the same", "X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\nX-Real-IP: 192.0.2.1", "192.0.2.1"},
		{"nothing else", "X-Real-IP: 192.0.2.1", "192.0.2.1"},
	} {
		src := head(t, "Host: a", c.fields)
		from := ClientOf(peerConn{addr: "10.0.0.1:80"}, src, trusted)
		out := forward(t, src, forwarding{Client: from, ID: NewRequestID(src, true)})
		if got := string(out.Get("x-real-ip")) + string(out.Get("x_real_ip")); got != c.want {
			t.Errorf("%s: X-Real-IP is %q, want %q", c.name, got, c.want)
		}
	}
}

// peerConn is a connection of which only the other end is known.
type peerConn struct {
	net.Conn
	addr string
}

func (c peerConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr))
}

func FuzzClientAddr(f *testing.F) {
	f.Add([]byte("1.1.1.1, 10.0.0.1"), []byte(`for="[::1]:80";a="\",",for=b`))
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, xff, forwarded []byte) {
		h := new(http1.Request)
		h.Add("Forwarded", string(forwarded))
		if len(xff) > 0 {
			h.Add("X-Forwarded-For", string(xff))
		}
		peer := netip.MustParseAddr("10.0.0.9")
		if got, _ := clientAddr(peer, h, trusted); !got.IsValid() || got.Zone() != "" {
			t.Fatalf("%q, %q: %v", xff, forwarded, got)
		}
	})
}
