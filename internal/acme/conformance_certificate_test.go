package acme_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
)

func certificateRows() []row {
	const id = "spiffe://cluster.local/ns/demo/sa/crt"
	return []row{
		{"CRT-1", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, id)
			if got := ok(t, c.Read(t, valid.Certificate), http.StatusOK).Header.Get("Content-Type"); got != "application/pem-certificate-chain" {
				t.Errorf("content type %q", got)
			}
			refused(t, c.PostRaw(t, valid.Certificate, []byte("{}")), http.StatusBadRequest, "malformed")
		}},
		{"CRT-2", chains},
		{"CRT-3", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, first := obtained(t, s, c, id)
			for _, reader := range []*acmetest.Client{c, on(c, s.Replica(t, acme.Options{})), c} {
				if got := ok(t, reader.Read(t, valid.Certificate), http.StatusOK).Body; !bytes.Equal(got, first) {
					t.Error("the chain changed")
				}
			}
		}},
		{"CRT-4", func(t *testing.T, s *suite) {
			// No alternate chains are offered, so none may be linked.
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, id)
			if links := strings.Join(c.Read(t, valid.Certificate).Header.Values("Link"), "\n"); strings.Contains(links, "alternate") {
				t.Errorf("links %q", links)
			}
			for _, at := range []string{valid.Certificate + "/1", valid.Certificate + "/0"} {
				refused(t, c.Read(t, at), http.StatusNotFound, "malformed")
			}
		}},
		{"CRT-5", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, id)
			if links := c.Read(t, valid.Certificate).Header.Values("Link"); len(links) != 1 || strings.Contains(links[0], `"up"`) {
				t.Errorf("links %q", links)
			}
		}},
		{"CRT-6", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, id)
			for _, accept := range []string{"application/pem-certificate-chain", "*/*", "", "application/pkix-cert", "nonsense"} {
				request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, valid.Certificate, strings.NewReader(sign(t, c, header(t, c, valid.Certificate), "")))
				request.Header.Set("Content-Type", "application/jose+json")
				request.Header.Set("Accept", accept)
				if got := ok(t, c.Do(t, request), http.StatusOK); got.Header.Get("Content-Type") != "application/pem-certificate-chain" {
					t.Errorf("Accept %q gets %q", accept, got.Header.Get("Content-Type"))
				}
			}
		}},
		{"CRT-7", func(t *testing.T, s *suite) {
			valid, _ := obtained(t, s, s.account(t, "istio"), id)
			refused(t, s.account(t, "server").Read(t, valid.Certificate), http.StatusNotFound, "malformed")
			refused(t, s.account(t, "istio").Read(t, valid.Certificate), http.StatusNotFound, "malformed")
		}},
		{"CRT-8", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, id)
			if got := c.Get(t, valid.Certificate); got.Status != http.StatusMethodNotAllowed || got.Problem(t).Type != "malformed" {
				t.Errorf("GET: %d %s", got.Status, got.Body)
			}
		}},
		{"CRT-9", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, id)
			for _, at := range []string{
				s.URL + "/acme/certificate/" + strings.Repeat("1", 40), s.URL + "/acme/certificate/x", valid.Certificate + "00",
				strings.Replace(valid.Certificate, "/certificate/", "/certificate/00", 1), s.URL + "/acme/certificate/" + strings.Repeat("a", 5000),
			} {
				refused(t, c.Read(t, at), http.StatusNotFound, "malformed")
			}
			upper := strings.ToUpper(valid.Certificate[strings.LastIndex(valid.Certificate, "/")+1:])
			if at := s.URL + "/acme/certificate/" + upper; at != valid.Certificate {
				refused(t, c.Read(t, at), http.StatusNotFound, "malformed")
			}
		}},
		{"CRT-10", func(t *testing.T, _ *suite) {
			s := apart(t, acmetest.Options{})
			c := s.account(t, "istio")
			until := s.Clock.Now().Add(5 * 24 * time.Hour).UTC().Format(time.RFC3339)
			made := ok(t, order(t, c, fmt.Sprintf(`{"identifiers":null,"notAfter":%q}`, until)), http.StatusCreated).Order(t)
			valid := ok(t, c.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusOK).Order(t)
			first := ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body
			s.Advance(t, 4*24*time.Hour)
			for _, reader := range []*acmetest.Client{c, on(c, s.Replica(t, acme.Options{}))} {
				if got := ok(t, reader.Read(t, valid.Certificate), http.StatusOK).Body; !bytes.Equal(got, first) {
					t.Error("the chain changed")
				}
			}
		}},
		{"CRT-11", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, first := obtained(t, s, c, id)
			ok(t, c.Post(t, c.Prefix+"/revoke-cert", map[string]any{"certificate": acmetest.Base64(leaf(t, first).Raw)}), http.StatusOK)
			if got := ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body; !bytes.Equal(got, first) {
				t.Error("the chain changed with the revocation")
			}
		}},
		{"CRT-12", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			var list []string
			for i := range 90 {
				list = append(list, fmt.Sprintf("%s.%s.%s.crt12-%d.svc", strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), i))
			}
			made := ok(t, order(t, c, names(list...)), http.StatusCreated).Order(t)
			valid := ok(t, c.Finalize(t, made, acmetest.CSR(t, &x509.CertificateRequest{DNSNames: list})), http.StatusOK).Order(t)
			chain := ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body
			block, _ := pem.Decode(chain)
			if first := len(pem.EncodeToMemory(block)); first > 36500 || len(chain) > 95000 {
				t.Errorf("leaf of %d bytes, chain of %d", first, len(chain))
			}
		}},
		{"CRT-13", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			replica := on(c, s.Replica(t, acme.Options{}))
			for range 10 {
				valid, chain := obtained(t, s, c, id)
				if got := ok(t, replica.Read(t, valid.Certificate), http.StatusOK).Body; !bytes.Equal(got, chain) {
					t.Error("the replica has another chain")
				}
				if got := statusOf(t, replica, valid.URL); got != "valid" {
					t.Errorf("the replica says that the order is %s", got)
				}
			}
		}},
	}
}

// chains reads PEM strictly, with and without the root.
func chains(t *testing.T, s *suite) {
	profile := s.AddProfile(t, "crt2", pki.PrivateMTLS, pki.MTLSOverACME, func(rules *pki.ProfileRules) {
		*rules = s.Profiles["istio"].Rules
		rules.IncludeRoot = true
	})
	rooted := s.client(t)
	rooted.Register(t, s.credentialOf(t, profile, "crt2"))
	for c, length := range map[*acmetest.Client]int{s.account(t, "istio"): 2, rooted: 3} {
		const id = "spiffe://cluster.local/ns/demo/sa/crt2"
		_, chain := obtained(t, s, c, id)
		if bytes.Contains(chain, []byte("\r")) || bytes.Contains(chain, []byte("\n\n")) || !bytes.HasSuffix(chain, []byte("-----END CERTIFICATE-----\n")) {
			t.Errorf("chain %q", chain)
		}
		var certificates []*x509.Certificate
		rest := chain
		for len(rest) > 0 {
			if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----\n")) {
				t.Fatalf("text between the blocks: %q", rest)
			}
			var block *pem.Block
			block, rest = pem.Decode(rest)
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil || len(block.Headers) != 0 {
				t.Fatalf("block %v: %v", block.Headers, err)
			}
			certificates = append(certificates, certificate)
		}
		if len(certificates) != length || len(certificates[0].URIs) != 1 || certificates[0].URIs[0].String() != id {
			t.Fatalf("chain of %d certificates, want %d", len(certificates), length)
		}
		for i, certificate := range certificates[:length-1] {
			if err := certificate.CheckSignatureFrom(certificates[i+1]); err != nil {
				t.Errorf("certificate %d is not certified by the next: %v", i, err)
			}
		}
		intermediates := x509.NewCertPool()
		intermediates.AddCert(certificates[1])
		if _, err := certificates[0].Verify(x509.VerifyOptions{
			Roots: s.Roots(t), Intermediates: intermediates, CurrentTime: s.Clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			t.Error(err)
		}
	}
}
