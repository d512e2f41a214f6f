package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// validate holds the tables of cfg against each other.
func (d *decoder) validate(cfg *Config) {
	if len(cfg.Routes) == 0 && !d.failed("route") {
		d.fail("route", "there is no [[route]]: nothing would be proxied")
	}
	d.references(cfg)
	d.ambiguous(cfg.Routes)
	if d.failed("admin.listen") || d.failed("server.listen") {
		return
	}
	switch admin, server := cfg.Admin.Listen, cfg.Server.Listen; {
	case !overlap(admin, server):
	case admin == server:
		d.fail("admin.listen", "%s is server.listen too; give each its own port", admin)
	default:
		d.fail("admin.listen", "%s is taken by server.listen %s; give each its own port", admin, server)
	}
}

// references reports names of upstreams and policies that no table has.
func (d *decoder) references(cfg *Config) {
	upstreams, policies := known(cfg.Upstreams), known(cfg.Policies) // once: both may be many, and routes too
	for i, r := range cfg.Routes {
		path := index("route", i)
		if _, ok := cfg.Upstreams[r.Upstream]; !ok && r.Upstream != "" {
			d.fail(join(path, "upstream"), "there is no [upstream.%s]%s", r.Upstream, upstreams)
		}
		if _, ok := cfg.Policies[r.Policy]; !ok && r.Policy != "" {
			d.fail(join(path, "policy"), "there is no [policy.%s]%s", r.Policy, policies)
		}
	}
}

// known lists the names that there are, as far as they are told.
func known[T any](tables map[string]T) string {
	if len(tables) == 0 {
		return ""
	}
	return "; there is: " + clip(strings.Join(slices.Sorted(maps.Keys(tables)), ", "), maxMessage)
}

// ambiguous reports routes of which the second can never match, and names
// that two routes share.
func (d *decoder) ambiguous(routes []Route) {
	matches, names := map[[2]string]int{}, map[string]int{}
	for i, r := range routes {
		path := index("route", i)
		if d.failed(join(path, "host")) || d.failed(join(path, "path")) {
			continue
		}
		line := d.lines.of(path)
		plain, _ := url.PathUnescape(r.Path) // as requests are matched
		match := [2]string{r.Host, plain}
		if first, taken := matches[match]; taken {
			d.fail(path, "can never match: the route on line %d takes every request for %s before this one on line %d", first, describe(r), line)
			continue // its name may be the same for the same reason
		}
		matches[match] = line
		if first, taken := names[r.Name]; taken {
			d.fail(join(path, "name"), "%q is the name of the route on line %d already", r.Name, first)
		} else {
			names[r.Name] = line
		}
	}
}

// describe says which requests r matches.
func describe(r Route) string {
	if r.Host == "" {
		return fmt.Sprintf("path %s on any host", r.Path)
	}
	return fmt.Sprintf("path %s on host %s", r.Path, r.Host)
}
