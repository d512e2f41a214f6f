package config

import "time"

// Default is the configuration of a file that says nothing: no routes, no
// upstreams, no policies. gateway.toml at the root of the repository shows
// every value, and a test holds it to these.
func Default() *Config {
	return &Config{
		Server:    defaultServer(),
		Admin:     defaultAdmin(),
		Limits:    defaultLimits(),
		Upstreams: map[string]*Upstream{},
		Policies:  map[string]*Policy{},
	}
}

// defaultServer listens on loopback, in plain TCP, and trusts no peer's
// forwarding headers.
func defaultServer() Server {
	return Server{Listen: "127.0.0.1:8080", DrainTimeout: 30 * time.Second}
}

// defaultAdmin listens on loopback without a token.
func defaultAdmin() Admin {
	return Admin{Listen: "127.0.0.1:9090"}
}

// defaultLimits are the ceilings of a route that sets none.
func defaultLimits() Limits {
	return Limits{
		MaxMessageSize:      16 << 20,
		MaxBodySize:         16 << 20,
		MaxFrameSize:        100_000_000, // the cap of the framed-v1 peers Weir serves
		MaxBufferedBytes:    1 << 20,
		MaxInbox:            256,
		MaxPendingBytes:     1 << 20,
		MaxConnections:      10_000,
		MaxConnectionsPerIP: Unlimited,
		MaxMemory:           1 << 30,
		MessageRate:         Unlimited,
		MessageBurst:        Unlimited, // of no meaning without a rate
		HandshakeTimeout:    10 * time.Second,
		IdleTimeout:         5 * time.Minute,
		WriteTimeout:        30 * time.Second,
		PingInterval:        30 * time.Second,
		SlowConsumerGrace:   5 * time.Second,
	}
}

// defaultUpstream has no URLs; those must be given.
func defaultUpstream() Upstream {
	return Upstream{
		Balance:         "round_robin",
		ConnectTimeout:  5 * time.Second,
		ResponseTimeout: 60 * time.Second,
		Retries:         1,
	}
}

// defaultPolicy has no module; that must be given.
func defaultPolicy() Policy {
	return Policy{Engine: "interpreter", OnFault: "closed"}
}
