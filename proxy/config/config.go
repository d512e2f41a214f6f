// Package config reads gateway.toml: strict keys, units, defaults, validation.
// It is pure apart from Files, which read; nothing else is opened or dialled.
package config

import (
	"net/netip"
	"time"
)

// Unlimited is the value of an optional ceiling that is written "none".
const Unlimited = 0

// Config is one whole, validated configuration with every default filled in.
type Config struct {
	Path      string // the file it was read from
	Files     Files  // by which it was read, and is read again
	Server    Server
	Admin     Admin
	Limits    Limits // process-wide, and the default of every route
	Routes    []Route
	Upstreams map[string]*Upstream
	Policies  map[string]*Policy

	lines lines // of the keys, for At
}

// Server is the public listener.
type Server struct {
	Listen         string // host:port
	TLSCert        string // PEM file, absolute; empty: plain TCP
	TLSKey         string
	CertPEM        []byte // TLSCert as it was read with this configuration
	KeyPEM         []byte
	TrustedProxies []netip.Prefix // peers whose forwarding headers are extended
	DrainTimeout   time.Duration
}

// Admin is the operator's listener.
type Admin struct {
	Listen string // host:port; "none" when off is the empty string
	Token  string // bearer token; empty: only loopback addresses may be listened on
}

// Limits bound what a route accepts and keeps. Sizes are bytes, counts are
// messages or connections. Optional ones are Unlimited when written "none".
type Limits struct {
	MaxMessageSize      int64         // one WebSocket message, fragments summed
	MaxBodySize         int64         // one HTTP request body
	MaxFrameSize        int64         // one frame of a framed-v1 stream
	MaxBufferedBytes    int64         // waiting toward one slow peer, headers and records included
	MaxInbox            int           // messages waiting toward the upstream of one tunnel
	MaxPendingBytes     int64         // likewise, toward the upstream of one tunnel
	MaxConnections      int           // optional; process-wide at top level, of the route in a route
	MaxConnectionsPerIP int           // optional; likewise
	MaxMemory           int64         // optional; all queues, and what is held of messages not yet whole; likewise
	MessageRate         int           // optional; messages per second from one client
	MessageBurst        int           // messages at once; default max(MessageRate, 1)
	HandshakeTimeout    time.Duration // TLS handshake, request head, each side of a WebSocket handshake
	IdleTimeout         time.Duration // no byte of a message either way; keep-alive; a request body that stops
	WriteTimeout        time.Duration // of a client that takes nothing of an HTTP answer
	PingInterval        time.Duration // optional; WebSocket pings by Weir
	SlowConsumerGrace   time.Duration // nothing moves toward a full peer
	ValidateUTF8        bool          // text messages must be UTF-8
}

// Route is what a request matches.
type Route struct {
	Name           string
	Host           string // exact, or "*.example.com", lower case; empty: any
	Path           string // prefix on segment boundaries, begins with "/"
	Upstream       string
	Policy         string   // empty: the native defaults
	AllowedOrigins []string // exact origins or "*"; empty: any origin, and none
	Limits         Limits   // the top level's with this route's overrides
	// Own marks which of MaxConnections, MaxConnectionsPerIP and MaxMemory the
	// route sets itself; only those bound the route apart from the process.
	Own Own
}

// Own tells which process-wide ceilings a route narrows for itself.
type Own struct{ MaxConnections, MaxConnectionsPerIP, MaxMemory bool }

// Upstream is a set of equal backends.
type Upstream struct {
	Name            string
	URLs            []string // http://host:port, https://host:port or demo:
	Balance         string   // "round_robin" or "least_connections"
	HealthPath      string   // empty: only connect failures count
	ConnectTimeout  time.Duration
	ResponseTimeout time.Duration // until the response head
	Retries         int           // further targets tried after a connect failure; may be 0
}

// Policy is a WebAssembly module and its settings.
type Policy struct {
	Name    string
	Module  string // absolute
	SHA256  string // lower-case hex; empty: not pinned
	Engine  string // "interpreter" or "compiler"
	OnFault string // "closed" or "open": what admit answers while the policy is down
	Config  map[string]any
	Bytes   []byte // the module as it was read with this configuration; nil: there is a problem with it, which was told
}
