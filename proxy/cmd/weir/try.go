package main

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"weir/proxy/config"
)

// whatToTry tells someone who has just started Weir where it is and, when a
// route leads to the demonstration backend, what can be seen there.
func whatToTry(cfg *config.Config, listen, admin net.Addr) string {
	scheme, k := "http", ""
	if cfg.Server.TLSCert != "" {
		scheme, k = "https", "k" // a certificate of one's own is not in curl's store
	}
	base := scheme + strings.TrimPrefix(localURL(listen.String()), "http")
	var b strings.Builder
	fmt.Fprintf(&b, "weir: listening on %s", base)
	if admin != nil {
		fmt.Fprintf(&b, ", admin on %s", localURL(admin.String()))
	}
	b.WriteString("; Ctrl-C drains and ends it\n")
	if !showsDemo(cfg) {
		return b.String()
	}
	fmt.Fprintf(&b, `
Try:
  open %[1]s/ in a browser         events over a WebSocket, as they come
  curl -%[2]sN %[1]s/events            the same as server-sent events
  curl -%[2]sd hello %[1]s/echo        a request body back
`, base, k)
	if admin != nil {
		fmt.Fprintf(&b, "  curl %s/connections        who is connected, and what waits for them\n", localURL(admin.String()))
	}
	fmt.Fprintf(&b, "  change %s and save it: it takes effect at once, and no connection notices\n\n", cfg.Path)
	return b.String()
}

// showsDemo tells whether the page of the demonstration backend is found at /
// on any host.
func showsDemo(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Routes, func(r config.Route) bool {
		return r.Host == "" && r.Path == "/" && slices.Contains(cfg.Upstreams[r.Upstream].URLs, "demo:")
	})
}
