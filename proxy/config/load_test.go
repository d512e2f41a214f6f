package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// minimal is the least that is accepted; it sets nothing that has a default.
const minimal = `
[[route]]
upstream = "a"
[upstream.a]
urls = ["http://127.0.0.1:9000"]
`

func mustParse(t *testing.T, src string) *Config {
	t.Helper()
	cfg, err := Parse("gateway.toml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// What is loaded was on the disk at one time: files that are switched between two
// reads are not taken for one version.
func TestFilesOfTwoVersionsAreNotMixed(t *testing.T) {
	reads := 0
	version := func(n int) reader { // the second from the n-th read on
		return func(path string, _ int64) ([]byte, error) {
			v := "one"
			if reads++; reads >= n {
				v = "two"
			}
			if path == "gateway.toml" {
				return []byte(minimal + "[policy." + v + "]\nmodule = \"p.wasm\"\n"), nil
			}
			return []byte(v), nil
		}
	}
	for n := range 8 {
		reads = 0
		cfg, problems := inspect("gateway.toml", version(n))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for name, p := range cfg.Policies {
			if string(p.Bytes) != name {
				t.Errorf("switched at read %d: policy %s got module %s", n, name, p.Bytes)
			}
		}
	}
	cfg, problems := inspect("gateway.toml", func(string, int64) ([]byte, error) {
		reads++
		return fmt.Appendf(nil, "%s# %d\n", minimal, reads), nil
	})
	if cfg != nil || !strings.Contains(problems.Error(), "changes each time") {
		t.Errorf("a file that never stays the same: %v, %v", cfg, problems)
	}
}

// What is made of a document grows with the square of how deep it nests: a file of
// 40 KB could take more memory than there is, and Weir with it.
func TestDeepDocumentsAreRefused(t *testing.T) {
	const levels = 20_000
	for name, src := range map[string]string{
		"arrays":      "a = " + strings.Repeat("[", levels) + strings.Repeat("]", levels),
		"tables":      "a = " + strings.Repeat("{a=", levels) + "1" + strings.Repeat("}", levels),
		"dotted key":  "a" + strings.Repeat(".a", levels) + " = 1",
		"header":      "[a" + strings.Repeat(".a", levels) + "]",
		"long key":    strings.Repeat("a", levels) + " = 1",
		"last table":  "[a" + strings.Repeat("a", levels) + "]",
		"array table": "[[a" + strings.Repeat("a", levels) + "]]",
	} {
		_, err := Parse("gateway.toml", []byte("\n"+src))
		problems, _ := errors.AsType[Errors](err)
		if len(problems) != 1 || problems[0].Line != 2 || !strings.Contains(problems[0].Message, "are allowed") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

// The library goes through all tables on the way to a key for each key: a megabyte
// of keys that are 240 levels deep took it 11 s.
func TestManyDeepKeysAreRefused(t *testing.T) {
	const levels = 16
	for name, deep := range map[string]func(n int) string{
		"arrays":     func(n int) string { return "a = " + strings.Repeat("[", n-1) + "1" + strings.Repeat("]", n-1) },
		"tables":     func(n int) string { return "a = " + strings.Repeat("{a=", n-1) + "1" + strings.Repeat("}", n-1) },
		"dotted key": func(n int) string { return "a" + strings.Repeat(".a", n-1) + " = 1" },
		"header":     func(n int) string { return "[a" + strings.Repeat(".a", n-1) + "]" },
		"in a table": func(n int) string { return "[[a]]\na" + strings.Repeat(".'.'", n-3) + " = 1" },
	} {
		_, err := Parse("gateway.toml", []byte(deep(levels)))
		if err == nil || strings.Contains(err.Error(), "deep") {
			t.Errorf("%s, %d levels: %v", name, levels, err)
		}
		_, err = Parse("gateway.toml", []byte(deep(levels+1)))
		problems, _ := errors.AsType[Errors](err)
		if len(problems) != 1 || !strings.Contains(problems[0].Message, "at most 16 are allowed") {
			t.Errorf("%s, %d levels: %v", name, levels+1, err)
		}
	}
}

// All that is wrong goes into one line of the log, of which the reader of another
// megabyte would find nothing.
func TestProblemsAreBounded(t *testing.T) {
	long := strings.Repeat(`\u0001`, 1000)
	src := strings.Repeat("[[route]]\nname = \""+long+"\"\nhost = \""+long+"\"\n", 150)
	_, err := Parse("gateway.toml", []byte(src))
	problems, _ := errors.AsType[Errors](err)
	if len(problems) != 101 || problems[0].Error() != "gateway.toml: there are more problems, only 100 are told" {
		t.Fatalf("%d problems, the first %.200v", len(problems), problems[0])
	}
	if n := len(err.Error()); n > 128<<10 {
		t.Errorf("they are %d bytes", n)
	}
	_, err = Parse("gateway.toml", []byte("a = "+strings.Repeat("1_", 100_000)))
	if n := len(err.Error()); n > 2<<10 {
		t.Errorf("a syntax error of %d bytes", n)
	}
}

// What is said of one route is not made of all upstreams and policies for each of
// thousands: Weir would read such a file for an hour, and not end meanwhile.
func TestManyUnknownNamesAreRefused(t *testing.T) {
	var src strings.Builder
	for _, kind := range []string{"upstream", "policy"} {
		src.WriteString(kind + " = {")
		for i := range 30_000 {
			fmt.Fprintf(&src, "%x={},", i)
		}
		src.WriteString("}\n")
	}
	src.WriteString("route = [" + strings.Repeat(`{upstream="x",policy="x"},`, 15_000) + "]\n")
	_, err := Parse("gateway.toml", []byte(src.String()))
	problems, _ := errors.AsType[Errors](err)
	if len(problems) != 101 || len(err.Error()) > 128<<10 {
		t.Errorf("%d problems of %d bytes", len(problems), len(err.Error()))
	}
}

// Each testdata/NAME.bad.toml begins with the problems it must give, one
// "# want: LINE: KEY: MESSAGE" each, and gives no others.
func TestBadFiles(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.bad.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bad.toml"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(src)) {
				if w, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, file+":"+strings.TrimSpace(w))
				}
			}
			cfg, err := Files{}.Load(file)
			problems, ok := errors.AsType[Errors](err)
			if cfg != nil || !ok {
				t.Fatalf("accepted, or refused with %T", err)
			}
			got := strings.ReplaceAll(problems.Error(), dir, "testdata")
			if want := strings.Join(want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestGoodFile(t *testing.T) {
	cfg, err := Files{}.Load("testdata/full.good.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("testdata/module.wasm")
	if err != nil {
		t.Fatal(err)
	}
	top := Limits{
		MaxMessageSize: 1 << 20, MaxBodySize: 2_000_000, MaxFrameSize: 4096, MaxBufferedBytes: 65536,
		MaxInbox: 10, MaxPendingBytes: 1 << 30, MaxConnections: Unlimited, MaxConnectionsPerIP: 20,
		MaxMemory: Unlimited, MessageRate: 50, MessageBurst: 200, HandshakeTimeout: time.Second,
		IdleTimeout: 90 * time.Second, WriteTimeout: 2 * time.Second, PingInterval: Unlimited,
		SlowConsumerGrace: 250 * time.Millisecond, ValidateUTF8: true,
	}
	chat, other := top, top
	chat.MaxMessageSize, chat.MaxInbox, chat.MaxConnections = 64<<10, 5, 100
	other.MessageRate, other.MessageBurst, other.ValidateUTF8 = Unlimited, Unlimited, false
	want := &Config{
		Path: "testdata/full.good.toml",
		Server: Server{
			Listen:         ":8443",
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32")},
			DrainTimeout:   time.Minute,
		},
		Admin:  Admin{Listen: "0.0.0.0:9091", Token: "s3cret"},
		Limits: top,
		Routes: []Route{
			{
				Name: "chat", Host: "*.example.com", Path: "/chat", Upstream: "pair", Policy: "standard",
				AllowedOrigins: []string{"https://app.example.com", "http://localhost:3000"},
				Limits:         chat, Own: Own{MaxConnections: true},
			},
			{Name: "[::1]/", Host: "[::1]", Path: "/", Upstream: "demo", AllowedOrigins: []string{"*"}, Limits: other},
		},
		Upstreams: map[string]*Upstream{
			"pair": {
				Name: "pair", URLs: []string{"http://127.0.0.1:9000", "https://b.example"}, Balance: "least_connections",
				HealthPath: "/healthz?full=1", ConnectTimeout: time.Second, ResponseTimeout: 90 * time.Second, Retries: 0,
			},
			"demo": {Name: "demo", URLs: []string{"demo:"}, Balance: "round_robin", ConnectTimeout: 5 * time.Second, ResponseTimeout: time.Minute, Retries: 1},
		},
		Policies: map[string]*Policy{
			"standard": {
				Name: "standard", Module: filepath.Join(dir, "module.wasm"), Engine: "compiler", OnFault: "open",
				SHA256: "90e5c051d6293868de7aca7d399c8f151551b04e98dce9b2063445854eb019f2",
				Config: map[string]any{
					"event_key": "/type",
					"droppable": []any{"presence", "typing"},
					"conflate":  map[string]any{"cursor": "/user"},
				},
				Bytes: module,
			},
		},
	}
	if !cfg.Equal(want) {
		t.Errorf("got\n%#v\nwant\n%#v", cfg, want)
	}
}

func TestMessageBurst(t *testing.T) {
	f := func(top, route string, topBurst, routeBurst int) {
		t.Helper()
		src := "[limits]\n" + top + "\n[[route]]\nupstream = \"a\"\nlimits = {" + route + "}\n[upstream.a]\nurls = [\"demo:\"]\n"
		cfg := mustParse(t, src)
		if got := cfg.Limits.MessageBurst; got != topBurst {
			t.Errorf("%q: burst %d, want %d", top, got, topBurst)
		}
		if got := cfg.Routes[0].Limits.MessageBurst; got != routeBurst {
			t.Errorf("%q then %q: burst %d, want %d", top, route, got, routeBurst)
		}
	}
	f(``, ``, Unlimited, Unlimited)
	f(`message_burst = 5`, `message_rate = 7`, Unlimited, 5)
	f(`message_rate = 100`, ``, 100, 100)
	f(`message_rate = 100`, `message_rate = 10`, 100, 10)
	f(`message_rate = 100`, `message_rate = "none"`, 100, Unlimited)
	f(`message_rate = 100`, `message_burst = 7`, 100, 7)
	f("message_rate = 100\nmessage_burst = 500", `message_rate = 10`, 500, 500)
	f(``, `message_rate = 10, message_burst = 3`, Unlimited, 3)
}

func TestAdminListeners(t *testing.T) {
	f := func(listen, want string) {
		t.Helper()
		cfg := mustParse(t, "[admin]\nlisten = \""+listen+"\"\n"+minimal)
		if cfg.Admin.Listen != want {
			t.Errorf("%s: %q, want %q", listen, cfg.Admin.Listen, want)
		}
	}
	f("none", "")
	f("localhost:9090", "localhost:9090")
	f("127.8.8.8:0", "127.8.8.8:0")
	f("[::1]:9090", "[::1]:9090")
}

// Comments and the order of keys change nothing; a value or a module does.
func TestEqual(t *testing.T) {
	a := mustParse(t, minimal)
	if b := mustParse(t, "# moved down\n\n"+minimal); !a.Equal(b) {
		t.Error("a comment makes a difference")
	}
	if b := mustParse(t, minimal+"[limits]\nmax_inbox = 257\n"); a.Equal(b) {
		t.Error("a limit makes no difference")
	}
	b := mustParse(t, minimal)
	a.Policies["p"], b.Policies["p"] = &Policy{Bytes: []byte("one")}, &Policy{Bytes: []byte("two")}
	if a.Equal(b) {
		t.Error("a module's bytes make no difference")
	}
	b = mustParse(t, minimal)
	if b.Server.CertPEM = []byte("renewed"); mustParse(t, minimal).Equal(b) {
		t.Error("a certificate's bytes make no difference")
	}
}

// What is found later, when a policy is loaded, has its line too.
func TestAt(t *testing.T) {
	cfg := mustParse(t, minimal+"[policy.p]\nengine = \"compiler\"\nmodule = \"p.wasm\"\n")
	want := "gateway.toml:8: policy.p.module: no"
	if got := cfg.At("no", "policy", "p", "module").Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.toml")
	_, err := Files{}.Load(path)
	problems, ok := errors.AsType[Errors](err)
	if !ok || len(problems) != 1 || problems[0].File != path || problems[0].Line != 0 {
		t.Errorf("got %#v", err)
	}
}

// A module that several policies name is read once: they get the same bytes
// even when the file is replaced meanwhile.
func TestSharedModuleIsReadOnce(t *testing.T) {
	src := minimal + "[policy.x]\nmodule = \"m.wasm\"\n[policy.y]\nmodule = \"./m.wasm\"\n"
	reads := 0
	cfg, err := parse("gateway.toml", []byte(src), func(string, int64) ([]byte, error) {
		reads++
		return fmt.Append(nil, "version ", reads), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if reads != 1 || string(cfg.Policies["x"].Bytes) != string(cfg.Policies["y"].Bytes) {
		t.Errorf("%d reads, %q and %q", reads, cfg.Policies["x"].Bytes, cfg.Policies["y"].Bytes)
	}
}

// The token is a secret: no message repeats it.
func TestTokenIsNeverRepeated(t *testing.T) {
	_, err := Parse("gateway.toml", []byte("[admin]\ntoken = \"hunter2 hunter2\"\n"+minimal))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// Nor where the quotes around it were left out.
func TestATokenWithoutQuotesIsNotRepeated(t *testing.T) {
	for _, secret := range []string{"hunter", "123456789012345678901234567890", "0x1hunter", "1987-13-45", "truehunter"} {
		for _, form := range []string{"[admin]\ntoken = %s", "admin.token = %s", "admin = { token = %s }", "admin = {\n listen = 'none', token = %s\n}", "[ admin ]\n'token' = %s"} {
			src := fmt.Sprintf(form, secret)
			_, err := Parse("gateway.toml", []byte(src+"\n"))
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", src, err)
			}
		}
	}
}

func TestNetworksOfMappedAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"::ffff:127.0.0.0/104":   "127.0.0.0/8",
		"::ffff:192.0.2.1":       "192.0.2.1/32",
		"::ffff:192.0.2.1/128":   "192.0.2.1/32",
		"::ffff:0.0.0.0/96":      "0.0.0.0/0",
		"::/0":                   "::/0",
		"2001:db8:ffff:1::/64":   "2001:db8:ffff:1::/64",
		"::ffff:127.0.0.0/88":    "",
		"::ffff:127.0.0.0.1/104": "",
	} {
		switch got, err := parsePrefix(in); {
		case want == "" && err == nil:
			t.Errorf("%s is read as %s", in, got)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%s is read as %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestListenersThatOverlap(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		if got := overlap(a, b); got != want || got != overlap(b, a) {
			t.Errorf("%s, %s: %t", a, b, got)
		}
	}
	f("127.0.0.1:8080", "127.0.0.1:8080", true)
	f("127.0.0.1:8080", "127.0.0.1:8081", false)
	f("127.0.0.1:0", "127.0.0.1:0", false)
	f(":8080", "127.0.0.1:8080", true)
	f("[::]:8080", "0.0.0.0:8080", true)
	f(":8080", "gateway.internal:8080", true)
	f("0.0.0.0:8080", "10.0.0.1:8080", true)
	f("0.0.0.0:8080", "[::1]:8080", false)
	f("localhost:8080", "0.0.0.0:8080", true)
	f("localhost:8080", "127.0.0.1:8080", true)
	f("gateway.internal:8080", "127.0.0.1:8080", false)
	f("gateway.internal:8080", "gateway.internal:8080", true)
	f("127.0.0.1:8080", "[::1]:8080", false)
}
