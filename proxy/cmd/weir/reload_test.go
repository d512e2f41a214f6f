package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// adminListener answers as told and remembers what it was asked.
func adminListener(t *testing.T, status int, reply string) (address string, asked func() string) {
	t.Helper()
	requests := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- fmt.Sprintf("%s %s %s", r.Method, r.URL, r.Header.Get("Authorization"))
		if status/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		fmt.Fprintln(w, reply)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func() string { return <-requests }
}

func TestReload(t *testing.T) {
	f := func(token string, answer int, reply string, status int, stdout, stderr string) {
		t.Helper()
		address, asked := adminListener(t, answer, reply)
		src, authorization := "[admin]\nlisten = \""+address+"\"\n", ""
		if token != "" {
			src += "token = \"" + token + "\"\n"
			authorization = "Bearer " + token
		}
		got, out, err := weir(t, "reload", "-c", write(t, "gateway.toml", src+minimal))
		if got != status || out != stdout || !strings.Contains(err, stderr) || (stderr == "") != (err == "") {
			t.Errorf("status %d, stdout %q, stderr %q", got, out, err)
		}
		if want := "POST /reload " + authorization; asked() != want {
			t.Errorf("it was not asked %q", want)
		}
	}
	const refused = `{
		"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "the configuration was refused",
		"errors": [{"file": "gateway.toml", "line": 3, "key": "route[0].path", "message": "no"}, {"message": "and more"}]
	}`
	f("", 200, `{"generation": 2, "changed": true}`, exitOK, "reloaded: generation 2 is in force\n", "")
	f("", 200, `{"generation": 2, "changed": false}`, exitOK, "nothing to reload, the files say what runs: generation 2 is in force\n", "")
	f("s3cret", 200, `{"generation": 3, "changed": true}`, exitOK, "reloaded: generation 3 is in force\n", "")
	f("", 422, refused, exitFailure, "", "weir reload: the configuration was refused\ngateway.toml:3: route[0].path: no\nand more\n")
	f("new", 401, `{"detail": "a token is needed"}`, exitFailure, "", "a token is needed (401 Unauthorized): the running Weir has another admin.token than the file")
	f("", 502, "bad gateway", exitFailure, "", "502 Bad Gateway\nbad gateway")
	f("", 200, "<html>", exitFailure, "", "not as Weir does")
	f("s3cret", 307, "", exitFailure, "", "307")
}

func TestReloadWithoutAnswer(t *testing.T) {
	f := func(listen, want string) {
		t.Helper()
		status, out, err := weir(t, "reload", "-c", write(t, "gateway.toml", "[admin]\nlisten = \""+listen+"\"\n"+minimal))
		if status != exitFailure || out != "" || !strings.Contains(err, want) {
			t.Errorf("%s: status %d, stdout %q, stderr %q", listen, status, out, err)
		}
	}
	f("127.0.0.1:1", "is Weir running")
	f("none", "admin.listen")
}

func TestReloadOfABrokenFileSaysSo(t *testing.T) {
	path := write(t, "gateway.toml", "nonsense = 1\n"+minimal)
	status, _, err := weir(t, "reload", "-c", path)
	if status != exitFailure || !strings.Contains(err, path+":1: nonsense") || !strings.Contains(err, "nothing was reloaded") {
		t.Errorf("status %d, stderr %q", status, err)
	}
}

func TestLocalURL(t *testing.T) {
	f := func(listen, want string) {
		t.Helper()
		if got := localURL(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
		if _, err := url.Parse(want); err != nil {
			t.Error(err)
		}
	}
	f("127.0.0.1:9090", "http://127.0.0.1:9090")
	f(":9090", "http://localhost:9090")
	f("0.0.0.0:9090", "http://127.0.0.1:9090")
	f("[::]:9090", "http://localhost:9090")
	f("[fe80::1]:9090", "http://[fe80::1]:9090")
	f("[fe80::1%eth0]:9090", "http://[fe80::1%25eth0]:9090") // RFC 6874
	f("localhost:9090", "http://localhost:9090")
}
