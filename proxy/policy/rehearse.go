package policy

import (
	"context"
	"strconv"

	"weir/hostabi"
)

// rehearse asks a guest what it will be asked, so that the host learns which of
// its code that takes: whatever a probe asks, and then as varied as peers are.
// What it answers decides nothing, and failures are told when it is probed.
func rehearse(ctx context.Context, o Options, g Guest) {
	p, err := LoadGuest(ctx, Options{Config: o.Config}, g)
	if err != nil {
		return
	}
	for i := range 2 * len(rehearsedKeys) {
		_, _, _ = p.classify(probeRoute, hostabi.Direction(i%2), rehearsedKeys[i/2]+strconv.Itoa(i))
	}
	for i := range 2 * len(rehearsedValues) {
		transport, i := hostabi.Transport(i%2), i/2
		in := hostabi.AdmitInput{
			Route: probeRoute, Transport: transport, Method: "GET", Host: "example.com:8080", Path: "/a/b%20c",
			Query: "a=" + rehearsedValues[i] + "&k%65y=%41+%zz&&key", Peer: "2001:db8::1", Headers: headersOf(p.shape.AdmitHeaders, i),
		}
		_, _ = p.admit(nil, &in)
		framing := hostabi.FramingInput{
			Route: probeRoute, Transport: transport, Path: in.Path, Subprotocols: []string{"graphql-ws", "v" + strconv.Itoa(i)},
			Headers: headersOf(p.shape.FramingHeaders, i),
		}
		_, _, _ = p.framing(nil, &framing)
	}
}

var (
	rehearsedKeys   = []string{"", "presence", "response:final", "a.b/c-d", "ключ", "a key as long as those of a namespace with a version: v"}
	rehearsedValues = []string{"", "1", "4.6.0", "5.0.0-beta.15+build.7", ">=1.2", "Bearer a.b-c_d", "ünïcode", "%C3%A9+", "x, y;q=0.5"}
)

// headersOf gives each header that a shape names the i-th value; "*" is one too.
func headersOf(names []string, i int) (headers []hostabi.Header) {
	for _, n := range names {
		if n == "*" {
			n = "x-forwarded-proto"
		}
		headers = append(headers, hostabi.Header{Name: n, Value: rehearsedValues[i]})
	}
	return headers
}
