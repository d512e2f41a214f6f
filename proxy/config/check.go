package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// demoURL is the backend inside Weir.
const demoURL = "demo:"

// maxName bounds the names of routes, upstreams and policies, in bytes: they
// are labels of every metric.
const maxName = 128

func notEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty; write a value or leave the key out")
	}
	return s, nil
}

// oneOf accepts only the given words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return "", fmt.Errorf("%q is not known; allowed: %s", s, strings.Join(words, ", "))
	}
}

// checkName accepts what may stand in brackets behind "upstream." and "policy.".
func checkName(s string) error {
	for i := range len(s) {
		if !bareByte(s[i]) && s[i] != '.' {
			return errors.New("is not a name; letters, digits, '-', '_' and '.' are allowed")
		}
	}
	return checkLabel(s)
}

// checkLabel accepts what is readable in a log line and as a label.
func checkLabel(s string) error {
	if s == "" {
		return errors.New("a name must not be empty")
	}
	if len(s) > maxName {
		return fmt.Errorf("the name has %d bytes; at most %d are allowed", len(s), maxName)
	}
	if !printable(s) || s != strings.TrimSpace(s) {
		return errors.New("a name is made of printable ASCII characters, without spaces around it")
	}
	return nil
}

// printable tells whether s is printable ASCII, spaces included.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func visible(s string) bool { return printable(s) && !strings.Contains(s, " ") }

// maxToken is what the admin listener takes beside the other fields of a request.
const maxToken = 8 << 10

// checkToken accepts what a client can send behind "Bearer ". It never repeats
// the token.
func checkToken(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty; leave the key out for none")
	}
	if !visible(s) {
		return "", errors.New("contains a space or a character that is not ASCII; it could not be sent in a header")
	}
	if len(s) > maxToken {
		return "", fmt.Errorf("has %d bytes; at most %d are allowed, as a header must hold it", len(s), maxToken)
	}
	return s, nil
}

// checkListen accepts host:port.
func checkListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf(`%q is not an address with a port; write such as "127.0.0.1:8080" or ":8080"`, s)
	}
	if !validPort(port, 0) {
		return "", fmt.Errorf("%q has the port %q; allowed: 0 (any free one) to 65535", s, port)
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil && !validHostname(host) {
		return "", fmt.Errorf("%q has the host %q, which is neither an address nor a name", s, host)
	}
	return s, nil
}

func validPort(s string, least int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 65535 && strconv.Itoa(n) == s
}

// validHostname accepts the letters, digits, hyphens and underscores of DNS. What is
// made of numbers alone is meant for an address, which no resolver takes it for.
func validHostname(s string) bool {
	if len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !bare(label) || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// overlap tells whether one listener at a and another at b would certainly be
// in each other's way: what names stand for is not looked up.
func overlap(a, b string) bool {
	hostA, port, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if port != portB || port == "0" {
		return false
	}
	x, y := listenAddr(hostA), listenAddr(hostB)
	switch {
	case hostA == hostB:
		return true
	case x.Is6() && x.IsUnspecified(), y.Is6() && y.IsUnspecified(): // of either family
		return true
	case x.IsUnspecified(), y.IsUnspecified():
		return x.Is4() && y.Is4()
	}
	return x.IsValid() && x == y
}

// listenAddr is the address that a listener on host has; the zero one for a name.
func listenAddr(host string) netip.Addr {
	switch host {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}

// loopback tells whether only this machine can reach a listener at address.
func loopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// checkHost accepts "api.example.com", "*.example.com", "192.0.2.1" and "[::1]".
func checkHost(s string) (string, error) {
	s = strings.ToLower(s)
	switch {
	case s == "" || s == "*":
		return "", errors.New("leave host out to match every host")
	case strings.Contains(s, "/"):
		return "", fmt.Errorf(`%q is not a host; write it alone, such as "api.example.com"`, s)
	}
	if in, ok := strings.CutPrefix(s, "["); ok {
		if a, err := netip.ParseAddr(strings.TrimSuffix(in, "]")); err == nil && a.Is6() && a.Zone() == "" && strings.HasSuffix(in, "]") {
			return "[" + a.String() + "]", nil
		}
	} else if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return "", fmt.Errorf("%q is an IPv6 address; write it as a client does, [%s]", s, s)
	} else if err == nil {
		return s, nil
	}
	if name, _, err := net.SplitHostPort(s); err == nil {
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		return "", fmt.Errorf("%q has a port; hosts are compared without theirs, write %q", s, name)
	}
	if !validHostname(strings.TrimPrefix(s, "*.")) {
		return "", fmt.Errorf(`%q is not a host; allowed: a name, "*." and a name, an address, or a bracketed IPv6 address`, s)
	}
	return s, nil
}

// checkPath accepts a path prefix as a request can send it.
func checkPath(s string) (string, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return "", fmt.Errorf(`%q does not begin with "/"`, s)
	case strings.ContainsAny(s, "?#"):
		return "", fmt.Errorf("%q has a query or a fragment; routes match paths only", s)
	case !visible(s) || strings.ContainsAny(s, `\*`):
		return "", fmt.Errorf(`%q has a character that a path prefix cannot have (a space, '\', '*' or one outside ASCII)`, s)
	case s == "/":
		return s, nil
	case strings.HasSuffix(s, "/"):
		return "", fmt.Errorf("%q ends in a slash; %q matches itself and everything below it", s, strings.TrimRight(s, "/"))
	}
	plain, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%q has a %%-escape that is none: %v", s, err)
	}
	if strings.ContainsAny(plain, `;\`) { // gateway refuses what servers read in different ways
		return "", fmt.Errorf(`%q has a character that servers read as the end of a segment (';' or '\'): no request for it would be routed`, s)
	}
	if strings.Count(plain, "/") > strings.Count(s, "/") {
		return "", fmt.Errorf(`%q escapes a slash, which servers read in different ways: no request for it would be routed`, s)
	}
	for segment := range strings.SplitSeq(plain[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("%q has the segment %q, which no request that is routed has", s, segment)
		}
	}
	return s, nil
}

func checkHealthPath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") || !visible(s) || strings.Contains(s, "#") {
		return "", fmt.Errorf(`%q is not a path; write such as "/healthz"`, s)
	}
	return s, nil
}

// checkOrigin accepts an origin as browsers serialise it (RFC 6454 §6.2).
func checkOrigin(s string) error {
	if s == "*" || s == "null" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || !visible(s) {
		return fmt.Errorf(`%q is not an origin; write such as "https://app.example.com", or "*" for any`, s)
	}
	if exact := u.Scheme + "://" + strings.ToLower(u.Host); exact != s {
		return fmt.Errorf("%q would never match; browsers send scheme, host and port only: %q", s, exact)
	}
	if port := u.Port(); port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		return fmt.Errorf("%q would never match; browsers leave the default port out: %q", s, strings.TrimSuffix(s, ":"+port))
	}
	return nil
}

// checkURL accepts http://host:port, https://host:port and demo:.
func checkURL(s string) (string, error) {
	if s == demoURL {
		return s, nil
	}
	if strings.Contains(s, "@") { // first: there may be a password before it, which is not repeated
		return "", errors.New("has a user name in it, which Weir would not send; remove it")
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.Host == "" || !visible(s) {
		return "", fmt.Errorf(`%q is not a URL of a backend; write such as "http://127.0.0.1:9000"`, s)
	}
	switch u.Scheme {
	case "http", "https":
	case "ws", "wss":
		http := map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
		return "", fmt.Errorf("%q: write %s://%s; WebSocket goes to the same URL as HTTP", s, http, u.Host)
	default:
		return "", fmt.Errorf("%q has the scheme %q; allowed: http, https and \"demo:\"", s, u.Scheme)
	}
	switch {
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "", u.ForceQuery:
		return "", fmt.Errorf("%q has more than a host; the request's own path is sent: write %s://%s", s, u.Scheme, u.Host)
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"), u.Port() != "" && !validPort(u.Port(), 1):
		return "", fmt.Errorf("%q has the port %q; allowed: 1 to 65535", s, u.Port())
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil && !validHostname(u.Hostname()) {
		return "", fmt.Errorf("%q has the host %q, which is neither an address nor a name", s, u.Hostname())
	}
	if a.Zone() != "" {
		return "", fmt.Errorf("%q has the zone %q, which means nothing in a URL (RFC 6874 §2) nor in a Host header; use an address that is routed", s, a.Zone())
	}
	return u.Scheme + "://" + u.Host, nil
}

// checkSHA256 accepts 64 hexadecimal digits.
func checkSHA256(s string) (string, error) {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 {
		return "", fmt.Errorf("%q is not a SHA-256; write the 64 hexadecimal digits that sha256sum prints", s)
	}
	return strings.ToLower(s), nil
}
