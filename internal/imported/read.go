// Package imported reads certificates that other CAs have issued out of what people and scans bring: PEM, DER, PKCS #7 and
// PKCS #12 files.
//
// What it is given comes from anywhere. What cannot be read is told, each with its place, and the rest is taken. Private
// keys are never kept.
package imported

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/smallstep/pkcs7"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/certloom/certloom/internal/fault"
)

// Bounds of one file.
const (
	MaxBytes        = 4 << 20
	MaxCertificates = 1000
	maxCertificate  = 64 << 10 // bytes of DER; real ones have a few kilobytes
)

// Found is what a file has: certificates, each once, in their order, and what could not be read.
type Found struct {
	Certificates []Certificate
	Problems     []Problem
}

// Certificate is a certificate and where in the file it was.
type Certificate struct {
	*x509.Certificate
	Where string // "line 12", or "certificate 3" where there are no lines
}

// Problem is a part of a file that could not be read.
type Problem struct {
	Where  string // as of Certificate; "" is the whole file
	Reason string // one sentence
}

// Read finds the certificates of a file. The password opens PKCS #12. Malformed: the file is too large, or nothing that
// holds certificates at all.
func Read(data []byte, password string) (*Found, error) {
	if len(data) > MaxBytes {
		return nil, fault.New(fault.Malformed, "file has %d bytes, more than the %d that one may have", len(data), MaxBytes)
	}
	r := &reader{password: password, seen: make(map[string]string)}
	switch trimmed := bytes.TrimSpace(data); {
	case len(trimmed) == 0:
		return nil, fault.New(fault.Malformed, "file is empty")
	case bytes.Contains(data, []byte("-----BEGIN ")):
		r.pem(data)
	case data[0] == sequence:
		r.der(data, "")
	default:
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(trimmed)), ""))
		if err != nil || len(der) == 0 || der[0] != sequence {
			return nil, fault.New(fault.Malformed, "file is neither PEM nor DER, PKCS #7 or PKCS #12")
		}
		r.der(der, "")
	}
	return &r.found, nil
}

// sequence is the tag that all DER here begins with.
const sequence = 0x30

type reader struct {
	password string
	found    Found
	seen     map[string]string // certificates by their bytes, and where they were
}

func (r *reader) problem(where, format string, args ...any) {
	r.found.Problems = append(r.found.Problems, Problem{Where: where, Reason: fmt.Sprintf(format, args...)})
}

// certificate takes one certificate.
func (r *reader) certificate(der []byte, where string) {
	if len(der) > maxCertificate {
		r.problem(where, "certificate has %d bytes, more than the %d that one may have", len(der), maxCertificate)
		return
	}
	if earlier, ok := r.seen[string(der)]; ok {
		r.problem(where, "certificate is the same as that of %s", earlier)
		return
	}
	if len(r.found.Certificates) == MaxCertificates {
		r.problem(where, "there are more than %d certificates; this one and those behind it are left out", MaxCertificates)
		return
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		r.problem(where, "certificate is malformed: %v", strings.TrimPrefix(err.Error(), "x509: "))
		return
	}
	r.seen[string(der)] = where
	r.found.Certificates = append(r.found.Certificates, Certificate{Certificate: certificate, Where: where})
}

// pem takes each block of a text, with the number of its line.
func (r *reader) pem(data []byte) {
	line := 1
	for len(data) > 0 {
		begin := bytes.Index(data, []byte("-----BEGIN "))
		if begin < 0 {
			return
		}
		line += bytes.Count(data[:begin], []byte("\n"))
		where := fmt.Sprintf("line %d", line)
		data = data[begin:]
		// A block ends where the next one begins, if not before: a broken one must not take its successor along.
		end := len(data)
		if next := bytes.Index(data[1:], []byte("-----BEGIN ")); next >= 0 {
			end = next + 1
		}
		r.block(data[:end], where)
		if r.full() {
			r.problem(where, "there are more than %d certificates or problems; what is behind this one is left out", MaxCertificates)
			return
		}
		line += bytes.Count(data[:end], []byte("\n"))
		data = data[end:]
	}
}

// full tells that a file with more in it is not worth reading on.
func (r *reader) full() bool {
	return len(r.found.Certificates) >= MaxCertificates || len(r.found.Problems) >= MaxCertificates
}

func (r *reader) block(text []byte, where string) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		r.problem(where, "block is no PEM: it has no end, or something else than base64 in it")
	case block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE":
		r.certificate(block.Bytes, where)
	case block.Type == "PKCS7" || block.Type == "CMS":
		r.pkcs7(block.Bytes, where)
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		r.problem(where, "block is a private key, which does not belong here; it was not kept")
	default:
		r.problem(where, "block is %.40q, not a certificate", block.Type)
	}
}

// der takes what is one of several kinds: certificates one after the other, PKCS #7, PKCS #12.
func (r *reader) der(data []byte, where string) {
	switch kindOf(data) {
	case kindPKCS7:
		r.pkcs7(data, where)
	case kindPKCS12:
		r.pkcs12(data)
	default:
		for n := 1; len(data) > 0; n++ {
			at := fmt.Sprintf("certificate %d", n)
			one, rest, ok := element(data)
			if !ok || r.full() {
				r.problem(at, "the %d bytes from here on are no certificate", len(data))
				return
			}
			r.certificate(one, at)
			data = rest
		}
	}
}

func (r *reader) pkcs7(data []byte, where string) {
	parsed, err := pkcs7.Parse(data)
	if err != nil {
		r.problem(where, "PKCS #7 is malformed: %v", strings.TrimPrefix(err.Error(), "pkcs7: "))
		return
	}
	if len(parsed.Certificates) == 0 {
		r.problem(where, "PKCS #7 has no certificates")
	}
	for i, certificate := range parsed.Certificates {
		at := fmt.Sprintf("certificate %d", i+1)
		if where != "" {
			at = where + ", " + at
		}
		r.certificate(certificate.Raw, at)
		if r.full() {
			return
		}
	}
}

func (r *reader) pkcs12(data []byte) {
	if n := mostIterations(data); n > maxIterations {
		r.problem("", "PKCS #12 asks for %d rounds to open it, more than the %d that one may ask for", n, maxIterations)
		return
	}
	_, leaf, chain, err := pkcs12.DecodeChain(data, r.password)
	if err != nil { // one without a private key
		var trust error
		if chain, trust = pkcs12.DecodeTrustStore(data, r.password); trust == nil {
			err = nil
		}
	}
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		r.problem("", "password does not open this PKCS #12")
		return
	case err != nil:
		r.problem("", "PKCS #12 is malformed: %v", strings.TrimPrefix(err.Error(), "pkcs12: "))
		return
	}
	all := chain
	if leaf != nil {
		all = append([]*x509.Certificate{leaf}, chain...)
	}
	if len(all) == 0 {
		r.problem("", "PKCS #12 has no certificates")
	}
	for i, certificate := range all {
		r.certificate(certificate.Raw, fmt.Sprintf("certificate %d", i+1))
	}
}
