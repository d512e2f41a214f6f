package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Package crypto/tls takes such a pair, and then fails every handshake.
func TestKeysThatNoClientTakesAreRefused(t *testing.T) {
	f := func(key crypto.Signer, want string) {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		err = servable(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%T: got %v, want %q", key, err, want)
		}
	}
	for curve, want := range map[elliptic.Curve]string{
		elliptic.P224(): "unsupported certificate curve", elliptic.P256(): "", elliptic.P384(): "", elliptic.P521(): "",
	} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f(key, want)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f(ed, "")
	t.Setenv("GODEBUG", "rsa1024min=0")
	for bits, want := range map[int]string{512: "RSA", 768: "an RSA key of 768 bits", 1024: "", 2048: ""} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		f(key, want)
	}
}

// Clients look at every certificate of the chain, so each must be one.
func TestEveryCertificateOfAChainIsRead(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	one := block("CERTIFICATE", der)

	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key.pem", block("PRIVATE KEY", keyDER))
	write("gateway.toml", "[server]\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n"+minimal)
	f := func(chain, want string) {
		t.Helper()
		write("cert.pem", chain)
		_, err := Files{}.Load(filepath.Join(dir, "gateway.toml"))
		if want == "" && err != nil {
			t.Error(err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), "gateway.toml:2: server.tls_cert: "+want)) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(one, "")
	f("subject: leaf\n"+one+"\nissuer: ca\n"+one, "")
	f(block("EC PARAMETERS", []byte{1})+one, "")
	f(one+block("CERTIFICATE", []byte("hello")), "certificate 2 of 2 cannot be read: ")
	f(one+one[:len(one)/2], "begins 2 certificates, of which 1 can be read")
	f(one+one[:len(one)/2]+"\n"+one, "begins 3 certificates, of which 2 can be read")
}
