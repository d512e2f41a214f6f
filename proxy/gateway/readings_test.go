package gateway

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"weir/proxy/nettest"
	"weir/proxy/stream"
)

// Each but the last few was served by the policy of one route, and by the upstream as a
// path of another: Node's URL, Express and Tomcat read them so.
func TestPathsThatServersReadDifferently(t *testing.T) {
	var r router
	for _, path := range []string{"/", "/admin", "/admin/open"} {
		r.add("", path, &route{Route: stream.Route{Name: path}})
	}
	for _, f := range []struct {
		target    string
		contested bool
	}{
		{"/admin//../x", true},  // URL: /admin/x
		{"/admin/../x", true},   // Express: /admin
		{"/x/../admin", true},   // Express: /x
		{"//x/admin", true},     // URL: /admin, of x
		{"///x/admin", true},    // URL: /admin, of x
		{`/\x/admin`, true},     // URL: /admin, of x
		{"//x/admin//..", true}, // URL: /admin/, of x
		{"//admin", true},       // URL: /, of admin
		{"/x//../admin", true},  // URL: /x/admin
		{`/x/..\admin`, true},   // URL: /admin
		{`/x%5c..%5cadmin`, true},
		{"/x/..;/admin", true}, // Tomcat: /admin
		{"/admin;x", true},     // Tomcat: /admin
		{"/admin;x/y", true},
		{"/y;a/../admin;x", true},
		{"/admin/x/%2e%2e/%2e%2e/y", true},
		{"/x/../admin//../y", true},
		{"/admin/x%2f..%2fopen", true},
		{"/x/%2e%2e/%/%2e%2e/admin", true},
		{"/x/%2E%2e/admin/%zz", true},
		{"/admin%2Fx/../y", true},         // URL: /y
		{"/x/../admin/%2e%2e/y", true},    // RFC 3986: in /admin
		{"/x/..;/admin/y/..%3B/..", true}, // Tomcat: /admin/y/
		{"/x%5c../admin/%2e%2e/y", true},  // RFC 3986: /admin/..
		{"/a%2Fb/../c", true},             // of these nobody looks where each leads
		{"/x/..;%2Fy", true},
		{"/admin%2Fx", true}, // Node's URL: /, and "admin/x" of it
		{"/admin%2fopen/y", true},
		{"/admin/open%2Fx;y", true},
		{"/.%2Fadmin", true},
		{"/;x%5cy/admin", true}, // to a servlet whose backslash is no slash: /admin
		{`/%3bx\y%2Fadmin/open`, true},
		{`/;x\y/admin\`, true},   // to one that turns it behind that: /admin/
		{`/%3b%5cx\admin`, true}, // to one behind a URL, which turns the second: /admin
		{"//x/admin;y", true},    // to one behind a URL: /admin
		{"//x%2fadmin%3b", true},
		{`/\x\admin;/y`, true},
		{"//admin/admin%5cy", true}, // URL: /admin%5cy
		{"//x%5cy/admin", true},     // RFC 3986: /admin, of x%5cy
		{`//x\y/admin`, true},
		{"/;%2Fx/admin%2Fy", true}, // Jetty: /admin/y
		{"/;%2Fx/%2Fadmin", true},

		{"/x/../y", false},
		{"/x//../y", false},
		{"//x/y", false},
		{"//x/y%20z", false},
		{"/x;%2Fy/z%2Fadmin", false},
		{"/a%2Fb/c", false},
		{"/admin/x%2Fopen", false},
		{"/x%2Fadmin", false},
		{"/admin%252Fx", false},
		{"/x/main..a%2Fb/...%2F", false},
		{"/admin/x/../y", false},
		{"/admin//x", false},
		{"/admin/./x", false},
		{"/./admin", false},
		{"/%61dmin", false},
		{"/admin/x;y", false},
		{"/admin/x?//x/open/../..", false},
		{"/x;y=z/..;", false},
		{"/x%", false},
		{"/x%/../y", false},
		{"/x...y/..z", false},
		{"*", false},
	} {
		path, plain := pathOf([]byte(f.target))
		rt := r.match(nil, path)
		if got := !plain && r.contested(nil, []byte(f.target), rt); got != f.contested {
			t.Errorf("%s: contested is %v", f.target, got)
		}
	}
}

// Where no route has a path, none is passed by.
func TestRoutesOfHostsHaveNoContestedPaths(t *testing.T) {
	var r router
	for _, host := range []string{"", "a.example", "*.b.example"} {
		r.add(host, "/", &route{})
	}
	for _, target := range []string{"//x/../y;z", "/a%2Fb/../c"} {
		path, _ := pathOf([]byte(target))
		if r.contested(nil, []byte(target), r.match(nil, path)) {
			t.Errorf("%s is contested", target)
		}
	}
}

func TestAContestedPathIsRefused(t *testing.T) {
	r := start(t, demoUpstream+`
[[route]]
upstream = "demo"
[[route]]
path = "/admin"
upstream = "demo"
`)
	for target, want := range map[string]string{"/admin//../echo": "400", "/x//../echo": "200", "//x/admin": "400", "//x/echo;y": "400"} {
		c := nettest.Dial(t, r.g.Addr().String())
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", target); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 "+want) {
			t.Errorf("%s: %q, %v", target, got, err)
		}
	}
}

// Each escape of a path took memory, and each reading some more: 15 KiB of them took up to
// 2 ms of a loop, and 64 clients had innocents wait for 76 ms.
func TestReadingALongPathTakesNoMoreMemory(t *testing.T) {
	var r router
	for _, path := range []string{"/", "/admin"} {
		r.add("", path, &route{Route: stream.Route{Name: path}})
	}
	taken := func(unit string, times int) float64 {
		target := []byte("/" + strings.Repeat(unit, times))
		return testing.AllocsPerRun(10, func() {
			path, _ := pathOf(target)
			r.contested(nil, target, r.match(nil, path))
		})
	}
	for _, unit := range []string{"%61", "%2f;", `/a;b\c/d/..`, "/..d%2fx", "/x;y"} {
		if short, long := taken(unit, 100), taken(unit, 1000); long > short {
			t.Errorf("%s: %v allocations, and %v for ten times as many", unit, short, long)
		}
	}
}

// A path was looked through once to resolve it, and three times to see whether it is
// contested: 48 ns for the longer one, of which 18 went.
func BenchmarkRouteOf(b *testing.B) {
	var r router
	for _, path := range []string{"/", "/api", "/admin"} {
		r.add("", path, &route{Route: stream.Route{Name: path}})
	}
	for _, target := range []string{"/", "/api/v1/projects/1234/runs?limit=10", "/api/x%20y"} {
		b.Run(target, func(b *testing.B) {
			for b.Loop() {
				path, plain := pathOf([]byte(target))
				if rt := r.match(nil, path); !plain && r.contested(nil, []byte(target), rt) {
					b.Fatal("it is contested")
				}
			}
		})
	}
}

// What is read in every way took 0.3 to 2 ms.
func BenchmarkContested(b *testing.B) {
	var r router
	for _, path := range []string{"/", "/native", "/native/deep"} {
		r.add("", path, &route{Route: stream.Route{Name: path}})
	}
	for name, target := range map[string]string{
		"dots":       "/" + strings.Repeat("a%2e/..;/", 1600),
		"escaped":    "/" + strings.Repeat(`a%2f..\`, 2000) + "native/ok",
		"empty":      "/native/" + strings.Repeat("//", 2000) + strings.Repeat("a;/", 2000) + "../ok",
		"parameters": "/native/" + strings.Repeat(`a;b/.\`, 2400),
		"up":         "/native/" + strings.Repeat("/a/..", 2800) + "/ok",
		"all":        "/native/" + strings.Repeat(`/a;b\c/d/..`, 1400) + "/ok",
		"kept":       "/native/" + strings.Repeat(`/%2f;b\c/..d`, 1200) + "/ok",
		"percent":    "/native/" + strings.Repeat("%61", 5000),
	} {
		b.Run(name, func(b *testing.B) {
			contested := false
			b.ReportAllocs()
			for b.Loop() {
				path, plain := pathOf([]byte(target))
				rt := r.match(nil, path)
				contested = !plain && r.contested(nil, []byte(target), rt)
			}
			b.Log(contested)
		})
	}
}
