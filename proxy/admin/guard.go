package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard decides who may ask. Browsers are the danger on a loopback address: a
// page from elsewhere can send requests there, and by rebinding its own name's
// address can read the answers too.
type guard struct {
	token  [sha256.Size]byte // digest, so that lengths are compared in constant time too
	secret bool              // a token is set; a page does not know it, so any Host will do
	origin *http.CrossOriginProtection
}

func newGuard(token string) *guard {
	return &guard{
		token:  sha256.Sum256([]byte(token)),
		secret: token != "",
		origin: http.NewCrossOriginProtection(),
	}
}

// admit answers a request that may not pass, and reports whether it may.
func (g *guard) admit(w http.ResponseWriter, r *http.Request) bool {
	if err := g.origin.Check(r); err != nil {
		refuse(w, http.StatusForbidden, "a browser sent this from another site: "+err.Error())
		return false
	}
	if g.secret {
		if g.authorized(r.Header.Get("Authorization")) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="weir admin"`)
		refuse(w, http.StatusUnauthorized, "this listener wants admin.token as Authorization: Bearer TOKEN")
		return false
	}
	if !localHost(r.Host) {
		refuse(w, http.StatusForbidden, "without admin.token the Host header must be localhost or an IP address")
		return false
	}
	return true
}

// authorized compares in constant time.
func (g *guard) authorized(header string) bool {
	scheme, token, _ := strings.Cut(header, " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	same := subtle.ConstantTimeCompare(given[:], g.token[:]) == 1
	return same && strings.EqualFold(scheme, "Bearer")
}

// localHost reports whether a Host header names no domain that someone else
// could point here: an IP address or localhost, or nothing (HTTP/1.0).
func localHost(host string) bool {
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost")
}
