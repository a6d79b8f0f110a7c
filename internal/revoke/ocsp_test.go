package revoke_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/testca"
)

// ask makes a request with the library that others use.
func (s *stage) ask(t testing.TB, der []byte, hash crypto.Hash) []byte {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(certificate, s.IssuingCert, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func (s *stage) answer(t testing.TB, by *revoke.Revoker, request []byte) (*ocsp.Response, time.Time) {
	t.Helper()
	der, next, err := by.OCSP(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ocsp.ParseResponse(der, s.IssuingCert)
	if err != nil {
		t.Fatal(err)
	}
	return response, next
}

func TestOCSP(t *testing.T) {
	t.Parallel()
	for name, key := range caKeys(t) {
		if _, ok := key.(ed25519.PrivateKey); ok {
			continue // the library does not know it; TestOCSPByOpenSSL does
		}
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			t.Run(name+"/"+hash.String(), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, testca.Options{IssuingKey: key})
				good, bad := s.certificate(t, 1), s.certificate(t, 2)
				s.revoke(t, bad, pki.KeyCompromise)
				response, next := s.answer(t, s.revoker, s.ask(t, good.DER, hash))
				if response.Status != ocsp.Good || response.SerialNumber.Cmp(good.Serial.Int()) != 0 || response.IssuerHash != hash ||
					!response.NextUpdate.Equal(testca.Now().Add(time.Hour)) || !next.Equal(response.NextUpdate) ||
					!response.ProducedAt.Equal(testca.Now()) || !response.ThisUpdate.Equal(testca.Now().Add(-time.Minute)) {
					t.Errorf("answer for a good certificate: %+v, %s", response, next)
				}
				response, next = s.answer(t, s.revoker, s.ask(t, bad.DER, hash))
				if response.Status != ocsp.Revoked || response.RevocationReason != ocsp.KeyCompromise || !response.RevokedAt.Equal(testca.Now()) || next.IsZero() {
					t.Errorf("answer for a revoked certificate: %+v", response)
				}
			})
		}
	}
}

// TestOCSPNeverSaysGoodOfWhatWeDidNotIssue includes certificates that our own key signed but that are not recorded.
func TestOCSPNeverSaysGoodOfWhatWeDidNotIssue(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	known := s.certificate(t, 1)
	template := &x509.Certificate{SerialNumber: pki.Serial("6d99").Int(), NotBefore: s.now(), NotAfter: s.now().Add(time.Hour)}
	stray := s.Leaf(t, template, testca.Key(t).Public())
	if response, next := s.answer(t, s.revoker, s.ask(t, stray.Raw, crypto.SHA1)); response.Status != ocsp.Unknown || !next.IsZero() {
		t.Errorf("a certificate that is not recorded: status %d, kept until %s", response.Status, next)
	}
	// A serial of the issuing CA, asked of the root.
	certificate, err := x509.ParseCertificate(known.DER)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(certificate, s.RootCert, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := s.revoker.OCSP(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := ocsp.ParseResponse(der, s.RootCert); err != nil || response.Status != ocsp.Unknown {
		t.Errorf("a serial of another CA: %+v, %v", response, err)
	}
}

func TestOCSPErrors(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	good := s.certificate(t, 1)
	request := s.ask(t, good.DER, crypto.SHA1)
	stranger := newStage(t, testca.Options{})
	for name, test := range map[string]struct {
		request []byte
		status  ocsp.ResponseStatus
	}{
		"refuses/empty":       {nil, ocsp.Malformed},
		"refuses/binary":      {[]byte{0xff, 0, 1}, ocsp.Malformed},
		"refuses/cut":         {request[:len(request)-1], ocsp.Malformed},
		"refuses/trailing":    {append(bytes.Clone(request), 0), ocsp.Malformed},
		"refuses/huge":        {bytes.Repeat(request, 100), ocsp.Malformed},
		"refuses/unknown-ca":  {stranger.ask(t, stranger.certificate(t, 1).DER, crypto.SHA1), ocsp.Unauthorized},
		"refuses/certificate": {good.DER, ocsp.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			der, next, err := s.revoker.OCSP(t.Context(), test.request)
			if err != nil || !next.IsZero() {
				t.Fatalf("OCSP: %s, %v", next, err)
			}
			_, err = ocsp.ParseResponse(der, nil)
			if refusal, ok := err.(ocsp.ResponseError); !ok || refusal.Status != test.status { //nolint:errorlint // the library does not wrap it
				t.Errorf("response %x: %v, want status %s", der, err, test.status)
			}
		})
	}
}

func TestOCSPStorageFails(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.ask(t, s.certificate(t, 1).DER, crypto.SHA1)
	s.ledger.Fail = func(string) (bool, error) { return false, fault.New(fault.Unavailable, "database is down") }
	der, _, err := s.revoker.OCSP(t.Context(), request)
	if err != nil || !bytes.Equal(der, []byte{0x30, 3, 0x0a, 1, 3}) {
		t.Errorf("OCSP while storage is away = %x, %v, want tryLater", der, err)
	}
	s.ledger.Fail = func(string) (bool, error) { return false, testca.ErrStorage }
	if der, _, err := s.revoker.OCSP(t.Context(), request); err == nil {
		t.Errorf("OCSP while storage fails = %x", der)
	}
}

func TestOCSPIsKept(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	c := s.certificate(t, 1)
	request := s.ask(t, c.DER, crypto.SHA1)
	other := s.newRevoker(t)
	first, _ := s.answer(t, s.revoker, request)
	s.answer(t, other, request)
	s.advance(5 * time.Second)
	if again, _ := s.answer(t, s.revoker, request); !bytes.Equal(again.Raw, first.Raw) {
		t.Error("the same question was signed twice")
	}
	if sha256, _ := s.answer(t, s.revoker, s.ask(t, c.DER, crypto.SHA256)); sha256.IssuerHash != crypto.SHA256 {
		t.Error("an answer for another hash was kept")
	}
	s.revoke(t, c, pki.Superseded)
	if mine, _ := s.answer(t, s.revoker, request); mine.Status != ocsp.Revoked {
		t.Error("this process does not know its own revocation")
	}
	s.advance(6 * time.Second)
	if theirs, _ := s.answer(t, other, request); theirs.Status != ocsp.Revoked {
		t.Error("another replica does not know after eleven seconds")
	}
}

// withNonce adds a nonce extension to a request.
func withNonce(t testing.TB, request, value []byte) []byte {
	t.Helper()
	var outer, tbs asn1.RawValue
	if _, err := asn1.Unmarshal(request, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &tbs); err != nil {
		t.Fatal(err)
	}
	wrap := func(tag byte, content ...[]byte) []byte {
		joined := bytes.Join(content, nil)
		switch {
		case len(joined) > 255:
			return append([]byte{tag, 0x82, byte(len(joined) >> 8), byte(len(joined))}, joined...)
		case len(joined) > 127:
			return append([]byte{tag, 0x81, byte(len(joined))}, joined...)
		}
		return append([]byte{tag, byte(len(joined))}, joined...)
	}
	oid := []byte{6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2}
	extensions := wrap(0xa2, wrap(0x30, wrap(0x30, oid, wrap(0x04, value))))
	return wrap(0x30, wrap(0x30, tbs.Bytes, extensions))
}

func TestOCSPNonce(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.ask(t, s.certificate(t, 1).DER, crypto.SHA1)
	nonce := append([]byte{4, 32}, bytes.Repeat([]byte{0xab}, 32)...)
	der, next, err := s.revoker.OCSP(t.Context(), withNonce(t, request, nonce))
	if err != nil || !next.IsZero() || !bytes.Contains(der, nonce) {
		t.Errorf("answer with a nonce: %x, kept until %s, %v", der, next, err)
	}
	if _, err := ocsp.ParseResponse(der, s.IssuingCert); err != nil {
		t.Error(err)
	}
	if plain, _, err := s.revoker.OCSP(t.Context(), request); err != nil || bytes.Contains(plain, nonce) {
		t.Errorf("answer without a nonce: %x, %v", plain, err)
	}
	for _, bad := range [][]byte{nil, make([]byte, 200)} {
		if der, _, err := s.revoker.OCSP(t.Context(), withNonce(t, request, bad)); err != nil || !bytes.Equal(der, []byte{0x30, 3, 0x0a, 1, 1}) {
			t.Errorf("nonce of %d bytes: %x, %v, want malformedRequest", len(bad), der, err)
		}
	}
}

// TestOCSPByOpenSSL asks a verifier that shares no code with us.
func TestOCSPByOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing; install it: apt-get install openssl")
	}
	for name, key := range caKeys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{IssuingKey: key})
			c := s.certificate(t, 1)
			dir := t.TempDir()
			file := func(name string, content []byte) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			certificate := func(name string, der []byte) string {
				return file(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
			}
			leaf, issuing, root := certificate("leaf.pem", c.DER), certificate("ca.pem", s.IssuingCert.Raw), certificate("root.pem", s.RootCert.Raw)
			run := func(arguments ...string) string {
				out, err := exec.CommandContext(t.Context(), "openssl", arguments...).CombinedOutput()
				if err != nil {
					t.Fatalf("openssl %v: %v: %s", arguments, err, out)
				}
				return string(out)
			}
			request := filepath.Join(dir, "request.der")
			run("ocsp", "-issuer", issuing, "-cert", leaf, "-reqout", request)
			asked, err := os.ReadFile(request)
			if err != nil {
				t.Fatal(err)
			}
			const decades = "1000000000" // openssl compares the answer's dates with its own clock
			for _, want := range []string{"good", "revoked"} {
				if want == "revoked" {
					s.revoke(t, c, pki.KeyCompromise)
				}
				der, _, err := s.revoker.OCSP(t.Context(), asked)
				if err != nil {
					t.Fatal(err)
				}
				out := run("ocsp", "-no_nonce", "-attime", strconv.FormatInt(testca.Now().Unix(), 10), "-validity_period", decades, "-issuer", issuing, "-cert", leaf, "-reqin", request, "-respin", file("response.der", der), "-CAfile", root, "-verify_other", issuing)
				if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "leaf.pem: "+want) || strings.Contains(out, "WARNING") {
					t.Errorf("openssl says: %s", out)
				}
			}
			crl, _, err := s.revoker.CRL(t.Context(), s.Issuing.ID)
			if err != nil {
				t.Fatal(err)
			}
			if out := run("crl", "-inform", "DER", "-in", file("ca.crl", crl), "-noout", "-CAfile", issuing); !strings.Contains(out, "verify OK") {
				t.Errorf("openssl says of the CRL: %s", out)
			}
		})
	}
}

func FuzzOCSP(f *testing.F) {
	s := newStage(f, testca.Options{})
	request := s.ask(f, s.certificate(f, 1).DER, crypto.SHA1)
	f.Add(request)
	f.Add(withNonce(f, request, []byte{4, 1, 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		der, _, err := s.revoker.OCSP(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		response, err := ocsp.ParseResponse(der, s.IssuingCert)
		if err == nil && response.Status == ocsp.Good && response.SerialNumber.Cmp(pki.Serial("6d"+strings.Repeat("0", 37)+"1").Int()) != 0 {
			t.Errorf("good is said of %x", response.SerialNumber)
		}
	})
}
