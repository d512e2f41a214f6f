package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range append(files, "../../gateway.toml") {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	var many strings.Builder
	for i := range maxProblems + 1 {
		fmt.Fprintf(&many, "a%d = 1\n", i)
	}
	f.Add([]byte(many.String()))
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, err := Parse("gateway.toml", src)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("config %v with error %v", cfg, err)
		}
		if err != nil {
			last := 1 + strings.Count(string(src), "\n")
			problems := err.(Errors)
			if len(problems) > maxProblems {
				problems = problems[1:] // that there are more
			}
			for _, e := range problems {
				if e.Line < 1 || e.Line > last {
					t.Errorf("line %d of %d: %v", e.Line, last, e)
				}
			}
			return
		}
		for _, l := range []Limits{cfg.Limits, cfg.Routes[0].Limits} {
			if l.MaxMessageSize < 1 || l.MaxInbox < 1 || l.IdleTimeout < minDuration || l.MaxConnections < 0 || l.MessageBurst < 0 {
				t.Errorf("accepted %+v", l)
			}
		}
	})
}

// FuzzValues: what the checks of single values accept, they accept again and
// leave as it is; nothing that splits a line or a header passes.
func FuzzValues(f *testing.F) {
	for _, s := range []string{
		"127.0.0.1:8080", ":0", "[::1]:1", "*.Example.com", "[::ffff:1.2.3.4]", "/a/b%20c", "https://a.example:8443", "null",
		"http://127.0.0.1:9000/", "demo:", "wss://a", "10.0.0.0/8", "::1", "a\r\nb", "http://a:b@c", "http://[::1%25a]",
	} {
		f.Add(s)
	}
	checks := map[string]func(string) (string, error){
		"listen": checkListen, "host": checkHost, "path": checkPath, "health_path": checkHealthPath, "url": checkURL,
		"sha256": checkSHA256, "token": checkToken,
		"origin": func(s string) (string, error) { return s, checkOrigin(s) },
		"name":   func(s string) (string, error) { return s, checkName(s) },
		"prefix": func(s string) (string, error) {
			p, err := parsePrefix(s)
			return p.String(), err
		},
	}
	f.Fuzz(func(t *testing.T, s string) {
		for what, check := range checks {
			once, err := check(s)
			if err != nil {
				continue
			}
			if twice, err := check(once); err != nil || twice != once {
				t.Errorf("%s %q is read as %q, and that as %q, %v", what, s, once, twice, err)
			}
			if strings.ContainsFunc(once, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				t.Errorf("%s %q is accepted as %q", what, s, once)
			}
		}
	})
}
