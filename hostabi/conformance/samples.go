package conformance

import (
	"strconv"
	"strings"

	"weir/hostabi"
)

// sample is one input that any policy has to answer.
type sample struct {
	name string
	hook hostabi.Hook
	in   []byte
	err  hostabi.ErrorInput // of the error hook, to judge its answer
}

type message interface{ AppendTo(dst []byte) []byte }

const route = "conformance"

// samplesOf are the inputs for h; the first is an ordinary one.
func samplesOf(h hostabi.Hook, shape *hostabi.Shape) (s []sample) {
	add := func(name string, m message) { s = append(s, sample{name: name, hook: h, in: m.AppendTo(nil)}) }
	switch h {
	case hostabi.Classify:
		classifySamples(add, shape)
	case hostabi.Admit:
		admitSamples(add, shape)
	case hostabi.FramingHook:
		framingSamples(add, shape)
	case hostabi.FaultHook:
		faultSamples(add)
	case hostabi.ErrorHook:
		for _, code := range codes() {
			for _, t := range []hostabi.Transport{hostabi.HTTP, hostabi.WebSocket} {
				for _, d := range []hostabi.Direction{hostabi.ToUpstream, hostabi.ToClient} {
					in := hostabi.ErrorInput{Route: route, Code: code, Transport: t, Direction: d}
					add(string(code), &in)
					s[len(s)-1].err = in
				}
			}
		}
	}
	return s
}

// malformed are inputs that are cut off.
func malformed(s sample) [][]byte {
	return [][]byte{nil, {1}, {1, 0, 0xFF, 0xFF}, s.in[:len(s.in)-1]}
}

// codes are the catalogue's, the gap notice and one from a later minor.
func codes() (c []hostabi.FaultCode) {
	for _, f := range hostabi.Catalogue {
		c = append(c, f.Code)
	}
	return append(c, hostabi.Gap, "from_a_later_minor")
}

func classifySamples(add func(string, message), shape *hostabi.Shape) {
	keys := []string{"message", "", "\xff\x00\n", `quo"ted`, strings.Repeat("k", hostabi.MaxEventKey)}
	for _, key := range append(keys, shape.Prewarm...) {
		for _, d := range []hostabi.Direction{hostabi.ToUpstream, hostabi.ToClient} {
			add("key "+strconv.Quote(key), &hostabi.ClassifyInput{Route: route, Direction: d, Key: []byte(key)})
		}
	}
}

func admitSamples(add func(string, message), shape *hostabi.Shape) {
	request := hostabi.AdmitInput{
		Route: route, Transport: hostabi.WebSocket, Method: "GET", Host: "example.com", Path: "/ws",
		Query: "a=1&b=%20", Peer: "192.0.2.1", Headers: headers(shape.AdmitHeaders, "1"),
	}
	add("a handshake", &request)
	add("an empty request", &hostabi.AdmitInput{})
	request.Query = strings.Repeat("%zz=&;", 1000)
	request.Headers = append(headers(shape.AdmitHeaders, strings.Repeat("\xff", 8000)), request.Headers...)
	add("a hostile request", &request)
	large := hostabi.AdmitInput{Route: route, Path: strings.Repeat("/", 60_000)}
	add("a long path", &large)
}

func framingSamples(add func(string, message), shape *hostabi.Shape) {
	for _, v := range []string{"4.6.0", "", "nonsense", strings.Repeat("9", 5000)} {
		for _, t := range []hostabi.Transport{hostabi.HTTP, hostabi.WebSocket} {
			add("version "+strconv.Quote(v[:min(len(v), 20)]), &hostabi.FramingInput{
				Route: route, Transport: t, Path: "/stream", Subprotocols: []string{"rivet", ""}, Headers: headers(shape.FramingHeaders, v),
			})
		}
	}
	add("no header", &hostabi.FramingInput{})
}

func faultSamples(add func(string, message)) {
	for _, code := range codes() {
		f, _ := hostabi.Lookup(code)
		add(string(code), &hostabi.FaultInput{Route: route, Code: code, Status: uint16(f.Status)})
	}
	for _, status := range []uint16{0, 400, 401, 404, 408, 413, 429, 499, 500, 501, 502, 503, 504, 599, 999} {
		for _, kind := range []string{"", "KMSDisabledException", strings.Repeat("\xff", 1000)} {
			add("status "+strconv.Itoa(int(status)), &hostabi.FaultInput{
				Route: route, Status: status, ErrorType: kind, Body: []byte(`{"message":"` + strings.Repeat("x", 1000)),
			})
		}
	}
}

// headers gives every header that the policy asks for one value.
func headers(names []string, value string) (list []hostabi.Header) {
	for _, n := range names {
		if n == "*" {
			n = "x-any"
		}
		list = append(list, hostabi.Header{Name: n, Value: value})
	}
	return list
}
