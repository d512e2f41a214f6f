package config

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// maxPolicyConfig is the largest config table of a policy, in bytes of JSON:
// it is handed over in one TLV, whose length has 16 bits.
const maxPolicyConfig = 60 << 10

// maxRetries is the most attempts after the first: more than that only adds to
// an outage.
const maxRetries = 10

// document decodes a whole file into cfg; paths in it are relative to dir.
func (d *decoder) document(m map[string]any, dir string, cfg *Config) {
	t := d.table("", m)
	if s, ok := t.sub("server"); ok {
		s.server(dir, &cfg.Server)
	}
	if s, ok := t.sub("admin"); ok {
		s.admin(&cfg.Admin)
	}
	if s, ok := t.sub("limits"); ok {
		s.limits(&cfg.Limits, new(Own))
	}
	rated := d.rated("limits", &cfg.Limits)
	for _, s := range t.subs("route") {
		r := s.route(cfg.Limits)
		cfg.Routes = append(cfg.Routes, r)
		rated = rated || d.rated(s.at("limits"), &r.Limits)
	}
	if cfg.Limits.MessageBurst != Unlimited && !rated {
		d.fail("limits.message_burst", "has no meaning without message_rate, here or in a route; set it too, or leave this out")
	}
	cfg.Limits.settle()
	t.named("upstream", func(name string, s *table) {
		cfg.Upstreams[name] = s.upstream(name)
	})
	t.named("policy", func(name string, s *table) {
		cfg.Policies[name] = s.policy(dir, name)
	})
	t.done()
}

func (t *table) server(dir string, s *Server) {
	t.text("listen", &s.Listen, checkListen)
	t.text("tls_cert", &s.TLSCert, beside(dir))
	t.text("tls_key", &s.TLSKey, beside(dir))
	t.texts("trusted_proxies", nameOrLeaveOut, func(_, v string) error {
		p, err := parsePrefix(v)
		s.TrustedProxies = append(s.TrustedProxies, p)
		return err
	})
	t.duration("drain_timeout", &s.DrainTimeout, false)
	t.done()
	if t.has("tls_cert") && !t.has("tls_key") {
		t.fail(t.at("tls_cert"), "has no tls_key beside it; both are needed for TLS, neither for plain TCP")
	}
	if t.has("tls_key") && !t.has("tls_cert") {
		t.fail(t.at("tls_key"), "has no tls_cert beside it; both are needed for TLS, neither for plain TCP")
	}
}

func (t *table) admin(a *Admin) {
	t.text("listen", &a.Listen, func(s string) (string, error) {
		if s == none {
			return "", nil
		}
		return checkListen(s)
	})
	t.text("token", &a.Token, checkToken)
	t.done()
	if a.Listen != "" && !loopback(a.Listen) && !t.has("token") {
		t.fail(t.at("listen"), "%s can be reached from other machines; set token too, or listen on 127.0.0.1 or [::1]", a.Listen)
	}
}

func (t *table) route(top Limits) Route {
	r := Route{Path: "/", Limits: top}
	t.text("name", &r.Name, func(s string) (string, error) { return s, checkLabel(s) })
	t.text("host", &r.Host, checkHost)
	t.text("path", &r.Path, checkPath)
	t.text("upstream", &r.Upstream, nil)
	t.text("policy", &r.Policy, nil)
	t.texts("allowed_origins", nameOrLeaveOut, func(_, s string) error {
		r.AllowedOrigins = append(r.AllowedOrigins, s)
		return checkOrigin(s)
	})
	if l, ok := t.sub("limits"); ok {
		l.limits(&r.Limits, &r.Own)
		if l.has("message_burst") && !t.rated(l.path, &r.Limits) && !t.failed("limits.message_rate") {
			t.fail(l.at("message_burst"), "has no meaning without message_rate; set it too, or leave this out")
		}
	}
	r.Limits.settle()
	t.done()
	if !t.has("upstream") {
		t.fail(t.path, `has no upstream; name one, such as upstream = "demo", and describe it under [upstream.demo]`)
	}
	if r.Name == "" {
		r.Name = r.Host + r.Path
		if err := checkLabel(r.Name); err != nil && !t.has("name") {
			t.fail(t.at("name"), "%v: those of host and path, set a shorter one", err)
		}
	}
	return r
}

func (t *table) upstream(name string) *Upstream {
	u := defaultUpstream()
	u.Name = name
	lineOf := map[string]int{}
	const nameOne = `name at least one backend, such as urls = ["http://127.0.0.1:9000"]`
	t.texts("urls", nameOne, func(path, s string) error {
		s, err := checkURL(s)
		if err != nil {
			return err
		}
		if line, twice := lineOf[s]; twice {
			return fmt.Errorf("%s is named twice, first on line %d", s, line)
		}
		lineOf[s] = t.lines.of(path)
		u.URLs = append(u.URLs, s)
		return nil
	})
	t.text("balance", &u.Balance, oneOf("round_robin", "least_connections"))
	t.text("health_path", &u.HealthPath, checkHealthPath)
	t.duration("connect_timeout", &u.ConnectTimeout, false)
	t.duration("response_timeout", &u.ResponseTimeout, false)
	t.retries(&u.Retries)
	t.done()
	if !t.has("urls") {
		t.fail(t.path, "has no urls; %s", nameOne)
	}
	if _, demo := lineOf[demoURL]; demo && len(lineOf) > 1 {
		t.fail(t.at("urls"), "demo: is the backend inside Weir and stands alone; remove it or the others")
	}
	return &u
}

// retries reads a number that, unlike a ceiling, may be 0.
func (t *table) retries(dst *int) {
	v := t.get("retries")
	if v == nil {
		return
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		t.want(t.at("retries"), "a whole number", v)
	case n < 0:
		t.fail(t.at("retries"), "%d is negative; allowed: 0 (one attempt only) to %d", n, maxRetries)
	case n > maxRetries:
		t.fail(t.at("retries"), "%d is too many; allowed: 0 (one attempt only) to %d", n, maxRetries)
	default:
		*dst = int(n)
	}
}

func (t *table) policy(dir, name string) *Policy {
	p := defaultPolicy()
	p.Name = name
	t.text("module", &p.Module, beside(dir))
	t.text("sha256", &p.SHA256, checkSHA256)
	t.text("engine", &p.Engine, oneOf("interpreter", "compiler"))
	t.text("on_fault", &p.OnFault, oneOf("closed", "open"))
	if c, ok := t.sub("config"); ok {
		p.Config = c.m
		if c.jsonable(c.path, c.m) {
			if b, err := json.Marshal(c.m); err != nil {
				t.fail(c.path, "cannot be handed to a policy: %v", err)
			} else if len(b) > maxPolicyConfig {
				t.fail(c.path, "is %d bytes as JSON; at most %d are allowed", len(b), maxPolicyConfig)
			}
		}
	}
	t.done()
	if !t.has("module") {
		t.fail(t.path, `has no module; name a file, such as module = "plugins/standard.wasm"`)
	}
	return &p
}

// jsonable reports what JSON, in which policies get their config, cannot say.
func (d *decoder) jsonable(path string, v any) bool {
	ok := true
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			ok = d.jsonable(join(path, k), e) && ok
		}
	case []map[string]any:
		for i, e := range v {
			ok = d.jsonable(index(path, i), e) && ok
		}
	case []any:
		for i, e := range v {
			ok = d.jsonable(index(path, i), e) && ok
		}
	case float64:
		if ok = !math.IsNaN(v) && !math.IsInf(v, 0); !ok {
			d.fail(path, "policies get their config as JSON, which has no %v; write a finite number or a string", v)
		}
	case time.Time:
		ok = false
		d.fail(path, "policies get their config as JSON, which has no dates; write it as a string")
	}
	return ok
}

// beside makes a path of the configuration absolute, from the directory of the
// file that names it.
func beside(dir string) func(string) (string, error) {
	return func(s string) (string, error) {
		if _, err := notEmpty(s); err != nil {
			return "", err
		}
		if filepath.IsAbs(s) {
			return filepath.Clean(s), nil
		}
		return filepath.Join(dir, s), nil
	}
}

// parsePrefix reads "10.0.0.0/8" or one address. IPv4 in IPv6's clothes is IPv4, as
// the addresses of peers are.
func parsePrefix(s string) (netip.Prefix, error) {
	host, _, network := strings.Cut(s, "/")
	a, err := netip.ParseAddr(host)
	switch {
	case err == nil && a.Zone() != "":
		bare := strings.Replace(s, "%"+a.Zone(), "", 1)
		return netip.Prefix{}, fmt.Errorf("%q has the zone %q; write %q, addresses are compared without their zones", s, a.Zone(), bare)
	case err == nil && !network:
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf(`%q is neither an address nor a network; write such as "127.0.0.1" or "10.0.0.0/8"`, s)
	}
	if p.Masked() != p {
		return p, fmt.Errorf("%s has address bits behind its prefix; did you mean %s or %s?", s, p.Masked(), p.Addr())
	}
	if a := p.Addr(); a.Is4In6() {
		const mapped = 128 - 32 // bits before the IPv4 address (RFC 4291 §2.5.5.2)
		return netip.PrefixFrom(a.Unmap(), p.Bits()-mapped), nil
	}
	return p, nil
}
