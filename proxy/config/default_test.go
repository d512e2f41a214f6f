package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// gateway.toml at the root shows the defaults; this holds it to them.
func TestGatewayTOMLShowsTheDefaults(t *testing.T) {
	const path = "../../gateway.toml"
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Parse(path, src)
	if err != nil {
		t.Fatal(err)
	}
	silent := mustParse(t, minimal)
	def := Default()
	for _, f := range []struct {
		what                string
		shown, silent, want any
	}{
		{"server", shown.Server, silent.Server, def.Server},
		{"admin", shown.Admin, silent.Admin, def.Admin},
		{"limits", shown.Limits, silent.Limits, def.Limits},
		{"route limits", shown.Routes[0].Limits, silent.Routes[0].Limits, def.Limits},
		{"route path", shown.Routes[0].Path, silent.Routes[0].Path, "/"},
		{"upstream", anonymous(*shown.Upstreams["demo"]), anonymous(*silent.Upstreams["a"]), defaultUpstream()},
	} {
		if !reflect.DeepEqual(f.shown, f.want) || !reflect.DeepEqual(f.silent, f.want) {
			t.Errorf("%s: gateway.toml gives %+v, nothing gives %+v, the default is %+v", f.what, f.shown, f.silent, f.want)
		}
	}
	if p, def := shown.Policies["standard"], defaultPolicy(); p.Engine != def.Engine || p.OnFault != def.OnFault {
		t.Errorf("policy: %+v, want %+v", p, def)
	}
}

// Every key that the decoder knows stands in gateway.toml, if in a comment.
func TestGatewayTOMLShowsEveryKey(t *testing.T) {
	src, err := os.ReadFile("../../gateway.toml")
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{
		"listen", "tls_cert", "tls_key", "trusted_proxies", "drain_timeout", "token",
		"name", "host", "path", "upstream", "policy", "allowed_origins", "limits",
		"urls", "balance", "health_path", "connect_timeout", "response_timeout", "retries",
		"module", "sha256", "engine", "on_fault",
	}
	for _, k := range limitKeys {
		keys = append(keys, k.name)
	}
	for _, key := range keys {
		if !strings.Contains(string(src), "\n"+key+" = ") && !strings.Contains(string(src), "\n# "+key+" = ") {
			t.Errorf("gateway.toml does not show %s", key)
		}
	}
}

func anonymous(u Upstream) Upstream {
	u.Name, u.URLs = "", nil
	return u
}
