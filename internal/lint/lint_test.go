package lint_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// recorder signs with a key and keeps what it signed.
type recorder struct {
	crypto.Signer
	tbs []byte
}

func (r *recorder) SignMessage(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	r.tbs = bytes.Clone(message)
	return crypto.SignMessage(r.Signer, random, message, opts)
}

func serial() pki.Serial { return pki.Serial("6d" + strings.Repeat("01", 19)) }

// leaf is a decision and the certificate that fits it.
func leaf(t testing.TB, h *testca.Hierarchy, key crypto.Signer) (*lint.Want, *x509.Certificate) {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keyID, err := lint.KeyID(spki)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(testca.SPIFFE)
	if err != nil {
		t.Fatal(err)
	}
	want := &lint.Want{
		Serial:    serial(),
		NotBefore: testca.Now(),
		NotAfter:  testca.Now().Add(24 * time.Hour),
		SPKI:      spki,
		Names: pki.Names{
			DNS: []string{"*.example.com", "a.example.com"}, IPs: []string{"10.0.0.1", "fd00::1"}, URIs: []string{testca.SPIFFE},
		},
		KeyUsage:    []string{"digitalSignature"},
		ExtKeyUsage: []string{"serverAuth", "clientAuth"},
	}
	template := &x509.Certificate{
		SerialNumber:          want.Serial.Int(),
		NotBefore:             want.NotBefore,
		NotAfter:              want.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID,
		DNSNames:              want.Names.DNS,
		IPAddresses:           []net.IP{net.ParseIP("10.0.0.1").To4(), net.ParseIP("fd00::1")},
		URIs:                  []*url.URL{uri},
		CRLDistributionPoints: h.Issuing.Settings.CRLURLs,
		OCSPServer:            h.Issuing.Settings.OCSPURLs,
		IssuingCertificateURL: h.Issuing.Settings.IssuerURLs,
	}
	return want, template
}

func issuerOf(t testing.TB, h *testca.Hierarchy) *lint.Issuer {
	t.Helper()
	issuer, err := lint.NewIssuer(h.IssuingCert, []*x509.Certificate{h.RootCert}, h.Issuing.Settings)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// tbs returns the bytes that would be signed.
func tbs(t testing.TB, h *testca.Hierarchy, template *x509.Certificate, public crypto.PublicKey) []byte {
	t.Helper()
	r := &recorder{Signer: h.IssuingKey}
	if _, err := x509.CreateCertificate(rand.Reader, template, h.IssuingCert, public, r); err != nil {
		t.Fatal(err)
	}
	return r.tbs
}

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	h, key := testca.New(t), testca.Key(t)
	for name, change := range map[string]func(*lint.Want, *x509.Certificate){
		"empty subject": func(*lint.Want, *x509.Certificate) {},
		"common name": func(w *lint.Want, c *x509.Certificate) {
			w.CommonName, c.Subject.CommonName = "a.example.com", "a.example.com"
		},
		"common name with an asterisk": func(w *lint.Want, c *x509.Certificate) {
			w.CommonName, c.Subject.CommonName = "*.example.com", "*.example.com" // Go writes it as UTF8String
		},
		"many names": func(w *lint.Want, c *x509.Certificate) {
			w.Names.DNS = nil
			for range 1000 {
				w.Names.DNS = append(w.Names.DNS, strings.Repeat("a.", 100)+"example.com")
			}
			c.DNSNames = w.Names.DNS
		},
		"key agreement": func(w *lint.Want, c *x509.Certificate) {
			w.KeyUsage = append(w.KeyUsage, "keyAgreement")
			c.KeyUsage |= x509.KeyUsageKeyAgreement
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, template := leaf(t, h, key)
			change(want, template)
			if err := issuerOf(t, h).Check(tbs(t, h, template, key.Public()), want); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// TestCheckRefuses builds certificates that are not what was decided, as a mistake in the code that builds them would.
func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	h, key := testca.New(t), testca.Key(t)
	for name, change := range map[string]func(*x509.Certificate){
		"refuses/serial":              func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) },
		"refuses/not-before":          func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Second) },
		"refuses/not-after":           func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) },
		"refuses/subject":             func(c *x509.Certificate) { c.Subject.CommonName = "a.example.com" },
		"refuses/organization":        func(c *x509.Certificate) { c.Subject.Organization = []string{"Evil"} },
		"refuses/extra-dns-name":      func(c *x509.Certificate) { c.DNSNames = append(slices.Clone(c.DNSNames), "b.example.com") },
		"refuses/missing-dns-name":    func(c *x509.Certificate) { c.DNSNames = c.DNSNames[1:] },
		"refuses/other-order":         func(c *x509.Certificate) { c.DNSNames = []string{c.DNSNames[1], c.DNSNames[0]} },
		"refuses/email":               func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} },
		"refuses/no-address":          func(c *x509.Certificate) { c.IPAddresses = nil },
		"refuses/long-address":        func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("fd00::1"), net.ParseIP("fd00::1")} },
		"refuses/no-uri":              func(c *x509.Certificate) { c.URIs = nil },
		"refuses/other-uri":           func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "evil", Path: "/ns/a/sa/b"}} },
		"refuses/key-usage":           func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
		"refuses/cert-sign":           func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"refuses/no-key-usage":        func(c *x509.Certificate) { c.KeyUsage = 0 },
		"refuses/purpose":             func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) },
		"refuses/missing-purpose":     func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] },
		"refuses/no-purpose":          func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"refuses/ca":                  func(c *x509.Certificate) { c.IsCA = true },
		"refuses/no-constraints":      func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"refuses/key-id":              func(c *x509.Certificate) { c.SubjectKeyId = []byte{1} },
		"refuses/no-key-id":           func(c *x509.Certificate) { c.SubjectKeyId = nil },
		"refuses/crl":                 func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://evil.example/crl"} },
		"refuses/no-crl":              func(c *x509.Certificate) { c.CRLDistributionPoints = nil },
		"refuses/ocsp":                func(c *x509.Certificate) { c.OCSPServer = nil },
		"refuses/issuer-address":      func(c *x509.Certificate) { c.IssuingCertificateURL = nil },
		"refuses/policy":              func(c *x509.Certificate) { c.Policies = []x509.OID{anyPolicy()} },
		"refuses/name-constraints":    func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"x"} },
		"refuses/unknown-extension":   func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}}} },
		"refuses/critical-purpose":    func(c *x509.Certificate) { c.ExtraExtensions = critical(asn1.ObjectIdentifier{2, 5, 29, 37}) },
		"refuses/signature-algorithm": func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA512 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, template := leaf(t, h, key)
			change(template)
			issuer := issuerOf(t, h)
			err := issuer.Check(tbs(t, h, template, key.Public()), want)
			if err == nil || fault.From(err).Kind != fault.Internal {
				t.Errorf("Check = %v, want an internal error", err)
			}
			signer, err := lint.NewSigner(h.IssuingKey, issuer, want, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if der, err := signer.Finish(x509.CreateCertificate(rand.Reader, template, h.IssuingCert, key.Public(), signer)); err == nil {
				t.Errorf("a certificate was signed: %x", der)
			}
		})
	}
	t.Run("refuses/other-public-key", func(t *testing.T) {
		t.Parallel()
		want, template := leaf(t, h, key)
		if err := issuerOf(t, h).Check(tbs(t, h, template, testca.Key(t).Public()), want); err == nil {
			t.Error("another key was accepted")
		}
	})
	t.Run("refuses/other-issuer", func(t *testing.T) {
		t.Parallel()
		want, template := leaf(t, h, key)
		if err := issuerOf(t, testca.New(t)).Check(tbs(t, h, template, key.Public()), want); err == nil {
			t.Error("another issuer was accepted")
		}
	})
}

func anyPolicy() x509.OID {
	oid, err := x509.OIDFromInts([]uint64{2, 5, 29, 32, 0})
	if err != nil {
		panic(err)
	}
	return oid
}

// critical is an extended key usage extension with the right value that is critical.
func critical(id asn1.ObjectIdentifier) []pkix.Extension {
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}, {1, 3, 6, 1, 5, 5, 7, 3, 2}})
	if err != nil {
		panic(err)
	}
	return []pkix.Extension{{Id: id, Critical: true, Value: value}}
}

// TestCheckRefusesDecisions has decisions that no certificate may follow, each with the certificate that would.
func TestCheckRefusesDecisions(t *testing.T) {
	t.Parallel()
	h, key := testca.New(t), testca.Key(t)
	for name, change := range map[string]func(*lint.Want, *x509.Certificate){
		"refuses/short-serial":    func(w *lint.Want, _ *x509.Certificate) { w.Serial = "01" },
		"refuses/negative-serial": func(w *lint.Want, _ *x509.Certificate) { w.Serial = pki.Serial(strings.Repeat("ff", 20)) },
		"refuses/no-serial":       func(w *lint.Want, _ *x509.Certificate) { w.Serial = "" },
		"refuses/backwards":       func(w *lint.Want, _ *x509.Certificate) { w.NotAfter = w.NotBefore },
		"refuses/before-the-ca":   func(w *lint.Want, _ *x509.Certificate) { w.NotBefore = h.IssuingCert.NotBefore.Add(-time.Second) },
		"refuses/outliving-ca":    func(w *lint.Want, _ *x509.Certificate) { w.NotAfter = h.IssuingCert.NotAfter.Add(time.Second) },
		"refuses/no-names":        func(w *lint.Want, _ *x509.Certificate) { w.Names = pki.Names{} },
		"refuses/cert-sign":       func(w *lint.Want, _ *x509.Certificate) { w.KeyUsage = append(w.KeyUsage, "keyCertSign") },
		"refuses/crl-sign":        func(w *lint.Want, _ *x509.Certificate) { w.KeyUsage = append(w.KeyUsage, "cRLSign") },
		"refuses/every-purpose":   func(w *lint.Want, _ *x509.Certificate) { w.ExtKeyUsage = nil },
		"refuses/unknown-purpose": func(w *lint.Want, _ *x509.Certificate) { w.ExtKeyUsage = []string{"codeSigning"} },
		"refuses/unknown-usage":   func(w *lint.Want, _ *x509.Certificate) { w.KeyUsage = []string{"everything"} },
		"refuses/no-usage":        func(w *lint.Want, _ *x509.Certificate) { w.KeyUsage = nil },
		"refuses/organization":    func(w *lint.Want, _ *x509.Certificate) { w.Organization = "Evil" },
		"refuses/constraints":     func(w *lint.Want, _ *x509.Certificate) { w.PermittedDNS = []string{"x"} },
		"refuses/encipherment": func(w *lint.Want, c *x509.Certificate) {
			w.KeyUsage = append(w.KeyUsage, "keyEncipherment")
			c.KeyUsage |= x509.KeyUsageKeyEncipherment
		},
		"refuses/client-encipherment": func(w *lint.Want, c *x509.Certificate) {
			w.KeyUsage, w.ExtKeyUsage = append(w.KeyUsage, "keyEncipherment"), []string{"clientAuth"}
			c.KeyUsage |= x509.KeyUsageKeyEncipherment
		},
		"refuses/trailing-dot": func(w *lint.Want, c *x509.Certificate) {
			w.Names.DNS = []string{"a.example.com."}
			c.DNSNames = w.Names.DNS
		},
		"refuses/other-uri": func(w *lint.Want, c *x509.Certificate) {
			w.Names.URIs = []string{"https://a.example.com"}
			c.URIs = []*url.URL{{Scheme: "https", Host: "a.example.com"}}
		},
		"refuses/bad-address": func(w *lint.Want, _ *x509.Certificate) { w.Names.IPs = []string{"10.0.0.0/8"} },
		"refuses/ca-below-path-length-0": func(w *lint.Want, c *x509.Certificate) {
			w.CA, w.Names, w.CommonName, w.KeyUsage = true, pki.Names{}, "CA", []string{"keyCertSign"}
			c.IsCA, c.MaxPathLenZero, c.Subject.CommonName, c.KeyUsage = true, true, "CA", x509.KeyUsageCertSign
		},
		"refuses/ca-with-names": func(w *lint.Want, _ *x509.Certificate) {
			w.CA, w.CommonName, w.KeyUsage = true, "CA", []string{"keyCertSign"}
		},
		"refuses/ca-without-subject": func(w *lint.Want, _ *x509.Certificate) {
			w.CA, w.Names, w.KeyUsage = true, pki.Names{}, []string{"keyCertSign"}
		},
		"refuses/ca-that-does-not-sign": func(w *lint.Want, _ *x509.Certificate) { w.CA, w.Names, w.CommonName = true, pki.Names{}, "CA" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, template := leaf(t, h, key)
			change(want, template)
			if err := issuerOf(t, h).Check(tbs(t, h, template, key.Public()), want); err == nil {
				t.Error("Check accepts it")
			}
		})
	}
}

// TestCheckRefusesDamage flips, cuts and inserts bytes: nothing but the certificate itself passes.
func TestCheckRefusesDamage(t *testing.T) {
	t.Parallel()
	h, key := testca.New(t), testca.Key(t)
	want, template := leaf(t, h, key)
	issuer, good := issuerOf(t, h), tbs(t, h, template, key.Public())
	for i := range good {
		for bit := range 8 {
			damaged := bytes.Clone(good)
			damaged[i] ^= 1 << bit
			if err := issuer.Check(damaged, want); err == nil {
				t.Fatalf("bit %d of byte %d may be flipped", bit, i)
			}
		}
		if err := issuer.Check(good[:i], want); err == nil {
			t.Fatalf("the first %d bytes alone are accepted", i)
		}
		if err := issuer.Check(slices.Insert(bytes.Clone(good), i, 0), want); err == nil {
			t.Fatalf("a byte may be inserted at %d", i)
		}
	}
	if err := issuer.Check(append(bytes.Clone(good), 0), want); err == nil {
		t.Error("a byte may be appended")
	}
	if err := issuer.Check(make([]byte, 1<<20), want); err == nil {
		t.Error("a megabyte is accepted")
	}
}

func TestSignerSignsOnce(t *testing.T) {
	t.Parallel()
	h, key := testca.New(t), testca.Key(t)
	want, template := leaf(t, h, key)
	signer, err := lint.NewSigner(h.IssuingKey, issuerOf(t, h), want, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("a digest was signed")
	}
	if _, err := signer.Finish(x509.CreateCertificate(rand.Reader, template, h.IssuingCert, key.Public(), signer)); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Finish(x509.CreateCertificate(rand.Reader, template, h.IssuingCert, key.Public(), signer)); err == nil {
		t.Error("a second certificate was signed")
	}
	if _, err := lint.NewSigner(h.RootKey, issuerOf(t, h), want, time.Now); err == nil {
		t.Error("a key that is not the CA's was accepted")
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	t.Parallel()
	h := testca.New(t)
	for name, change := range map[string]func(*x509.Certificate){
		"refuses/leaf":           func(c *x509.Certificate) { c.IsCA = false },
		"refuses/no-constraints": func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"refuses/no-cert-sign":   func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign },
		"refuses/no-crl-sign":    func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign },
		"refuses/no-key-id":      func(c *x509.Certificate) { c.SubjectKeyId = nil },
		"refuses/huge-key-id":    func(c *x509.Certificate) { c.SubjectKeyId = make([]byte, 65) },
		"refuses/unknown-critical": func(c *x509.Certificate) {
			c.UnhandledCriticalExtensions = []asn1.ObjectIdentifier{{2, 5, 29, 36}}
		},
		"refuses/server-only": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"refuses/P-521": func(c *x509.Certificate) {
			key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
			if err != nil {
				panic(err)
			}
			c.PublicKey = key.Public()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := *h.IssuingCert
			change(&c)
			if _, err := lint.NewIssuer(&c, nil, pki.CASettings{}); err == nil {
				t.Error("NewIssuer accepts it")
			}
		})
	}
	c := *h.IssuingCert
	c.KeyUsage, c.ExtKeyUsage = 0, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := lint.NewIssuer(&c, nil, pki.CASettings{}); err != nil {
		t.Errorf("a CA without key usage is refused: %v", err)
	}
}

func TestPermits(t *testing.T) {
	t.Parallel()
	h := testca.New(t)
	_, ten, err := net.ParseCIDR("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	_, twenty, err := net.ParseCIDR("10.20.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	own := *h.IssuingCert
	own.PermittedDNSDomains, own.ExcludedDNSDomains = []string{"Example.com", ".svc"}, []string{"secret.example.com"}
	own.PermittedIPRanges, own.ExcludedIPRanges = []*net.IPNet{ten}, []*net.IPNet{twenty}
	above := *h.RootCert
	above.PermittedURIDomains, above.ExcludedURIDomains = []string{"cluster.local", ".prod.example"}, []string{"x.prod.example"}
	issuer, err := lint.NewIssuer(&own, []*x509.Certificate{&above}, pki.CASettings{})
	if err != nil {
		t.Fatal(err)
	}
	for name, permitted := range map[string]bool{
		"example.com": true, "a.example.com": true, "*.example.com": false, "a.b.example.com": true, "evilexample.com": false,
		"secret.example.com": false, "a.secret.example.com": false, "*.secret.example.com": false, "notsecret.example.com": true,
		"a.svc": true, "svc": false, "*.svc": true, "other.org": false, "*.a.example.com": true,

		"10.1.2.3": true, "10.20.0.1": false, "11.0.0.1": false, "fd00::1": false,

		"spiffe://cluster.local/ns/a/sa/b": true, "spiffe://sub.cluster.local/ns/a/sa/b": false, "spiffe://a.prod.example/ns/a/sa/b": true,
		"spiffe://prod.example/ns/a/sa/b": false, "spiffe://x.prod.example/ns/a/sa/b": false, "spiffe://y.x.prod.example/ns/a/sa/b": false,
		"spiffe://cluster.local.evil/ns/a/sa/b": false,
	} {
		var names pki.Names
		_, notAddress := netip.ParseAddr(name)
		switch {
		case strings.HasPrefix(name, "spiffe:"):
			names.URIs = []string{name}
		case notAddress == nil:
			names.IPs = []string{name}
		default:
			names.DNS = []string{name}
		}
		err := issuer.Permits(&names)
		if (err == nil) != permitted || (err != nil && !fault.Is(err, fault.RejectedIdentifier)) {
			t.Errorf("Permits(%q) = %v, want permitted %t", name, err, permitted)
		}
	}
}

// TestPermitsLikeTheStandardLibrary holds our reading against the verifier of the standard library: whatever we
// permit, it accepts.
func TestPermitsLikeTheStandardLibrary(t *testing.T) {
	t.Parallel()
	h := testca.NewWith(t, testca.Options{Constraints: func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains, c.ExcludedDNSDomains = []string{"example.com", "svc"}, []string{"secret.example.com"}
		c.PermittedURIDomains, c.ExcludedURIDomains = []string{"cluster.local", ".prod.example"}, []string{"x.prod.example"}
	}})
	issuer, key := issuerOf(t, h), testca.Key(t)
	uris := []string{"cluster.local", "a.prod.example", "prod.example", "x.prod.example", "other"}
	names := []string{"example.com", "a.example.com", "secret.example.com", "*.example.com", "*.svc", "a.secret.example.com", "other.org"}
	for _, host := range uris {
		for _, name := range names {
			want, template := leaf(t, h, key)
			want.Names = pki.Names{DNS: []string{name}, URIs: []string{"spiffe://" + host + "/ns/a/sa/b"}}
			if issuer.Permits(&want.Names) != nil {
				continue
			}
			template.DNSNames, template.IPAddresses = want.Names.DNS, nil
			template.URIs = []*url.URL{{Scheme: "spiffe", Host: host, Path: "/ns/a/sa/b"}}
			h.Verify(t, h.Leaf(t, template, key.Public()).Raw, testca.Now())
		}
	}
}

func FuzzCheck(f *testing.F) {
	h, key := testca.New(f), testca.Key(f)
	want, template := leaf(f, h, key)
	issuer, good := issuerOf(f, h), tbs(f, h, template, key.Public())
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := issuer.Check(data, want); err == nil && !bytes.Equal(data, good) {
			// Extensions may stand in any order; everything else is fixed.
			if len(data) != len(good) {
				t.Errorf("accepted %x", data)
			}
		}
	})
}

func BenchmarkLint(b *testing.B) {
	h, key := testca.New(b), testca.Key(b)
	want, template := leaf(b, h, key)
	issuer, good := issuerOf(b, h), tbs(b, h, template, key.Public())
	b.ReportAllocs()
	for b.Loop() {
		if err := issuer.Check(good, want); err != nil {
			b.Fatal(err)
		}
	}
}
