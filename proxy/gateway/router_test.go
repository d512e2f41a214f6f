package gateway

import (
	"testing"

	"weir/proxy/stream"
)

func TestRouter(t *testing.T) {
	var r router
	for _, e := range []struct{ host, path, name string }{
		{"", "/", "root"},
		{"", "/api", "api"},
		{"", "/api/v2/", "v2"},
		{"a.example.com", "/", "a"},
		{"*.example.com", "/", "wild"},
		{"*.b.example.com", "/x", "deep"},
		{"[::2]", "/", "six"},
	} {
		r.add(e.host, e.path, &route{Route: stream.Route{Name: e.name}})
	}
	for _, f := range []struct{ host, target, want string }{
		{"other", "/", "root"},
		{"other", "/api", "api"},
		{"other", "/api/", "api"},
		{"other", "/apiary", "root"},
		{"other", "/api/v2/x", "v2"},
		{"other", "/api/v2", "api"},
		{"a.example.com", "/api", "a"},
		{"A.Example.COM:8080", "/", "a"},
		{"a.example.com.", "/", "a"},
		{"z.example.com", "/api", "wild"},
		{"z.b.example.com", "/x/y", "deep"},
		{"z.b.example.com", "/y", "wild"},
		{"example.com", "/", "root"},
		{"[::1]:80", "/api", "api"},
		{"[::2]:80", "/", "six"},
		{"[::2]", "/", "six"},
		{"other", "/public/../api", "api"},
		{"other", "/%61pi", "api"},
		{"other", "//api", "api"},
		{"other", "/x?y=/api", "root"},
		{"other", "/api?x", "api"},
	} {
		got := r.match(f.host, pathOf([]byte(f.target)))
		if got == nil || got.Name != f.want {
			t.Errorf("%s %s: got %v, want %s", f.host, f.target, got, f.want)
		}
	}
	if got := new(router).match("x", "/"); got != nil {
		t.Errorf("an empty router matched %s", got.Name)
	}
}
