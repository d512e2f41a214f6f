package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOtherBuildsAreOtherBytes(t *testing.T) {
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	one, two := otherBuild(wasm, 1), otherBuild(wasm, 2)
	if !bytes.HasPrefix(one, wasm) || !bytes.HasPrefix(two, wasm) || bytes.Equal(one, two) || len(wasm) != 8 {
		t.Errorf("% x\n% x", one, two)
	}
	section := one[len(wasm):]
	if section[0] != 0 || int(section[1]) != len(section)-2 || !bytes.HasPrefix(section[2:], []byte("\x05build")) {
		t.Errorf("no custom section: % x", section)
	}
}

func TestARefusedReloadFailsTheRun(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/reload" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("the reason"))
	}))
	defer s.Close()
	admin := strings.TrimPrefix(s.URL, "http://")
	if err := postReload(t.Context(), admin); err != nil {
		t.Error(err)
	}
	status = http.StatusUnprocessableEntity
	if err := postReload(t.Context(), admin); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Error(err)
	}
}
