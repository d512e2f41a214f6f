package gateway

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
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
		{"*.b.example.com", "/x/../x", "never"},
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
		{"other", "/api/v2/", "v2"},
		{"other", "/api/v20/x", "api"},
		{"other", "/ap", "root"},
		{"a.example.com", "/api", "a"},
		{"A.Example.COM:8080", "/", "a"},
		{"a.example.com.", "/", "a"},
		{"z.example.com", "/api", "wild"},
		{"z.b.example.com", "/x/y", "deep"},
		{"z.b.example.com", "/y", "wild"},
		{"z.y.b.example.com", "/x", "deep"},
		{"z.b.example.com", "/xy", "wild"},
		{strings.Repeat(".", 100) + ".b.example.com", "/x", "deep"},
		{".example.com", "/", "wild"},
		{"xexample.com", "/", "root"},
		{"example.com", "/", "root"},
		{"[::1]:80", "/api", "api"},
		{"[::2]:80", "/", "six"},
		{"[::2]", "/", "six"},
		{"[0:0:0:0:0:0:0:2]", "/", "six"},
		{"[0000::0002]:80", "/", "six"},
		{"[::3]", "/", "root"},
		{"other", "/public/../api", "api"},
		{"other", "/%61pi", "api"},
		{"other", "//api", "api"},
		{"other", "/x?y=/api", "root"},
		{"other", "/api?x", "api"},
	} {
		path, _ := pathOf([]byte(f.target))
		got := r.match([]byte(f.host), path)
		if got == nil || got.Name != f.want {
			t.Errorf("%s %s: got %v, want %s", f.host, f.target, got, f.want)
		}
	}
	if got := new(router).match([]byte("x"), []byte("/")); got != nil {
		t.Errorf("an empty router matched %s", got.Name)
	}
}

// Twenty thousand routes of one host were copied for each that was added, which took
// seconds and gigabytes, and each request was compared with all of them.
func TestManyRoutes(t *testing.T) {
	const routes = 10_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var r router
	for i := range routes {
		for _, host := range []string{"", "a.example", fmt.Sprintf("*.h%d.example", i)} {
			r.add(host, fmt.Sprintf("/p%d", i), &route{Route: stream.Route{Name: fmt.Sprint(host, i)}})
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > routes*10<<10 {
		t.Errorf("%d bytes are allocated for %d routes", n, 3*routes)
	}
	for i := range routes {
		path := fmt.Appendf(nil, "/p%d/x", i)
		wildcard := fmt.Sprintf(".h%d.example", i)
		for host, want := range map[string]string{"other": "", "a.example": "a.example", "x" + wildcard: "*" + wildcard} {
			if got := r.match([]byte(host), path); got == nil || got.Name != fmt.Sprint(want, i) {
				t.Fatalf("%s %s: got %v, want that of %q", host, path, got, want)
			}
		}
	}
}

// FuzzPath holds that the path a request is routed by begins with a slash, has
// no segment that leads elsewhere, and is the same however it is spelled.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/b?x=/../", "//a//", "/a%2Fb", "/a/./b/..", "/%", "*", "http://a/b", "/a/...", "/%25%32%65"} {
		f.Add([]byte(s), "A.example:80")
	}
	f.Fuzz(func(t *testing.T, target []byte, host string) {
		if name := hostName(host); hostName(name) != name && !strings.Contains(name, ":") && !strings.HasSuffix(name, ".") {
			t.Errorf("host %q is %q, and that %q", host, name, hostName(name))
		}
		if len(target) == 0 || target[0] != '/' {
			return // absolute forms are rewritten before, and "*" is no path
		}
		read, _ := pathOf(target)
		path := string(read)
		if path == "" || path[0] != '/' {
			t.Fatalf("%q is %q", target, path)
		}
		for _, bad := range []string{"//", "/./", "/../"} {
			if strings.Contains(path+"/", bad) && !strings.HasSuffix(path, "/") || strings.Contains(path, bad) {
				t.Errorf("%q is %q, in which %q is left", target, path, bad)
			}
		}
		var spelled []byte
		for _, c := range []byte(path) {
			spelled = fmt.Appendf(spelled, "%%%02x", c)
		}
		spelled = append([]byte("/x/.."), bytes.ReplaceAll(spelled, []byte("%2f"), []byte("/"))...)
		if again, _ := pathOf(spelled); string(again) != path {
			t.Errorf("%q is %q, and spelled as %q it is %q", target, path, spelled, again)
		}
	})
}

// fasthttp, which did it before, moved the rest of the path for each "..": 16 KiB of them
// took 9 ms.
func BenchmarkPathOf(b *testing.B) {
	for _, path := range []string{"/a%2fb//c/../d", strings.Repeat("/aaaaaaa", 1000) + strings.Repeat("/..", 2000)} {
		b.Run(path[:7], func(b *testing.B) {
			for b.Loop() {
				pathOf([]byte(path))
			}
		})
	}
}
