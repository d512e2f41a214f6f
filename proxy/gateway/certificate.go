package gateway

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"time"
)

// loadTLS keeps the old generation's where it is the same certificate: the keys of
// session tickets are its own.
func (gen *generation) loadTLS(old *generation) error {
	s := &gen.cfg.Server
	if s.TLSCert == "" {
		return nil
	}
	if old != nil && old.tls != nil && bytes.Equal(s.CertPEM, old.cfg.Server.CertPEM) && bytes.Equal(s.KeyPEM, old.cfg.Server.KeyPEM) {
		gen.tls = old.tls
		return nil
	}
	cert, err := tls.X509KeyPair(s.CertPEM, s.KeyPEM)
	if err != nil {
		return gen.cfg.At(err.Error(), "server", "tls_cert")
	}
	gen.tls = &tls.Config{
		Certificates: []tls.Certificate{cert},
		NextProtos:   []string{"http/1.1", "http/1.0"},
		MinVersion:   tls.VersionTLS12,
	}
	return nil
}

// warnOfExpiry says so when clients will refuse the certificate that is about to be
// served, which may yet be better than none.
func (gen *generation) warnOfExpiry(log *slog.Logger, now time.Time) {
	if gen.tls == nil {
		return
	}
	leaf := gen.tls.Certificates[0].Leaf
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		log.Warn("tls_cert is not valid now: clients will refuse it",
			"tls_cert", gen.cfg.Server.TLSCert, "not_before", leaf.NotBefore.UTC(), "not_after", leaf.NotAfter.UTC())
	}
}
