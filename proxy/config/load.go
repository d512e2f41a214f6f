package config

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"weir/hostabi"
)

// maxFile is the largest configuration or PEM file that is read, in bytes.
const maxFile = 1 << 20

// Load reads the configuration at path with every file it names, so that what
// is built from it later does not depend on the disk. The error is of type
// Errors.
func (f Files) Load(path string) (*Config, error) { return whole(f.Inspect(path)) }

// Inspect is Load that also returns what could be read of a configuration with
// problems, so that more of them can be looked for: not to be run. It is nil
// when nothing could.
func (f Files) Inspect(path string) (*Config, Errors) {
	cfg, problems := inspect(path, f.read)
	if cfg != nil {
		cfg.Files = f
	}
	return cfg, problems
}

// maxReadings is how often files that change while they are read are read.
const maxReadings = 8

// inspect reads the configuration at path and what it names until all of that was
// there at one time: a directory that is switched meanwhile has the one of before
// and the others of after.
func inspect(path string, read reader) (*Config, Errors) {
	type file struct {
		limit int64
		bytes []byte
		err   error
	}
	for range maxReadings {
		files := map[string]file{}
		noted := func(path string, limit int64) ([]byte, error) {
			b, err := read(path, limit)
			files[path] = file{limit, b, err}
			return b, err
		}
		var cfg *Config
		var problems Errors
		if src, err := noted(path, maxFile); err != nil {
			problems = Errors{{File: path, Message: "cannot be read: " + err.Error(), cause: err}}
		} else {
			cfg, problems = parse(path, src, noted)
		}
		same := true
		for path, f := range files {
			if b, err := read(path, f.limit); !bytes.Equal(b, f.bytes) || (err == nil) != (f.err == nil) {
				same = false
				break
			}
		}
		if same {
			return cfg, problems
		}
	}
	return nil, Errors{{File: path, Message: "this file, or one that it names, changes each time it is read"}}
}

// whole withholds a configuration that has problems.
func whole(cfg *Config, problems Errors) (*Config, error) {
	if len(problems) > 0 {
		return nil, problems
	}
	return cfg, nil
}

// Parse reads a configuration that was read from path, without touching the
// disk: modules stay unread, certificates unseen. The error is of type Errors.
func Parse(path string, src []byte) (*Config, error) {
	return whole(parse(path, src, nil))
}

// reader returns the bytes of a file of at most limit bytes.
type reader func(path string, limit int64) ([]byte, error)

// parse decodes and validates src; read fetches the files it names, nil leaves
// them.
func parse(path string, src []byte, read reader) (*Config, Errors) {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, Errors{{File: path, Message: err.Error()}}
	}
	text := unmarked(string(src))
	found, long, line := scanLines(text)
	if long != "" {
		measured := fmt.Sprintf("has %d bytes with the tables and arrays that it is in; at most %d are allowed", len(long), maxPath)
		if n := levels(long); n > maxLevels {
			measured = fmt.Sprintf("is %d levels of tables and arrays deep; at most %d are allowed", n, maxLevels)
		}
		return nil, Errors{{File: path, Line: line, Message: fmt.Sprintf("the key %s %s", clip(long, 40), measured)}}
	}
	var m map[string]any
	if _, err := toml.Decode(text, &m); err != nil {
		return nil, Errors{syntax(path, err)}
	}
	d := &decoder{file: path, lines: found}
	cfg := Default()
	cfg.Path, cfg.lines = path, d.lines
	d.document(m, dir, cfg)
	d.validate(cfg)
	if read != nil {
		d.certificate(&cfg.Server, read)
		d.modules(cfg.Policies, read)
	}
	return cfg, d.problems()
}

// syntax is the library's complaint about a document that is not TOML.
func syntax(file string, err error) Error {
	e := Error{File: file, Line: 1, Message: err.Error()}
	if p, ok := errors.AsType[toml.ParseError](err); ok {
		e.Line, e.Key, e.Message = max(p.Position.Line, 1), clip(p.LastKey, maxPath), p.Message
	}
	e.Message = clip(e.Message, maxMessage)
	if e.Key == "admin.token" { // the library repeats what it cannot read
		e.Message = `cannot be read; write it once, on one line and in quotes: '...' takes a \ as it is`
	}
	return e
}

// certificate reports a TLS pair that cannot be served.
func (d *decoder) certificate(s *Server, read reader) {
	if s.TLSCert == "" || s.TLSKey == "" {
		return
	}
	cert, certErr := read(s.TLSCert, maxFile)
	if certErr != nil {
		d.unread("server.tls_cert", "cannot be read: "+certErr.Error(), certErr)
	}
	key, keyErr := read(s.TLSKey, maxFile)
	if keyErr != nil {
		d.unread("server.tls_key", "cannot be read: "+keyErr.Error(), keyErr)
	}
	if certErr != nil || keyErr != nil {
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil {
		err = cmp.Or(readable(cert, pair.Certificate), servable(&pair))
	} else {
		err = fmt.Errorf("does not make a pair with tls_key: %w", err)
	}
	if err != nil {
		d.fail("server.tls_cert", "%v", err)
		return
	}
	s.CertPEM, s.KeyPEM = cert, key
}

// minRSA is the least size of an RSA key that crypto/rsa signs with, in bits.
const minRSA = 1024

// servable reports a pair with whose key every handshake would fail: crypto/tls
// takes it, and looks again when there is a client.
func servable(pair *tls.Certificate) error {
	if key, ok := pair.PrivateKey.(*rsa.PrivateKey); ok && key.N.BitLen() < minRSA {
		return fmt.Errorf("has an RSA key of %d bits; at least %d are needed", key.N.BitLen(), minRSA)
	}
	hello := tls.ClientHelloInfo{ // of a client that takes all there is
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{
			tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.Ed25519,
		},
	}
	if err := hello.SupportsCertificate(pair); err != nil {
		return fmt.Errorf("cannot be served: %w", err)
	}
	return nil
}

// readable reports what crypto/tls would serve unseen: it looks at the first
// certificate of the chain in file, and passes over what is cut short. Clients look
// at all of them.
func readable(file []byte, chain [][]byte) error {
	if begun := bytes.Count(file, []byte("-----BEGIN CERTIFICATE-----")); begun != len(chain) {
		return fmt.Errorf("begins %d certificates, of which %d can be read: the file is damaged or cut short", begun, len(chain))
	}
	for i, der := range chain {
		if _, err := x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("certificate %d of %d cannot be read: %w", i+1, len(chain), err)
		}
	}
	return nil
}

// modules reads the module of every policy and holds it to its sha256. One
// that several policies name is read once, so that they get the same bytes.
func (d *decoder) modules(policies map[string]*Policy, read reader) {
	type file struct {
		bytes []byte
		err   error
	}
	files := map[string]file{}
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		p := policies[name]
		if p.Module == "" {
			continue
		}
		f, ok := files[p.Module]
		if !ok {
			f.bytes, f.err = read(p.Module, hostabi.MaxModuleBytes)
			files[p.Module] = f
		}
		table := join("policy", name)
		if f.err != nil {
			d.unread(join(table, "module"), missing(p.Module, f.err), f.err)
			continue
		}
		p.Bytes = f.bytes
		sum := sha256.Sum256(f.bytes)
		if got := hex.EncodeToString(sum[:]); p.SHA256 != "" && got != p.SHA256 {
			d.fail(join(table, "sha256"), "the module %s has the SHA-256 %s, not the %s that is pinned", p.Module, got, p.SHA256)
			p.Bytes = nil // nobody tries what is not the pinned one
		}
	}
}

// missing says why a module cannot be read, and what to do about it.
func missing(path string, err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("there is no file %s; paths are relative to the file that names them (make build builds plugins/*.wasm)", path)
	}
	return fmt.Sprintf("cannot be read: %v", err)
}
