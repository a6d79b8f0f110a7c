package connector_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/connector"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	hmacKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
	root    = "-----BEGIN CERTIFICATE-----\nbWVzaA==\n-----END CERTIFICATE-----\n"
	ownRoot = "-----BEGIN CERTIFICATE-----\nc2VydmVy\n-----END CERTIFICATE-----\n"
)

func today() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// subject is a profile as the guides make it.
func subject(method pki.EnrollmentMethod) *connector.Subject {
	return &connector.Subject{
		Profile: &pki.Profile{
			ID: "p", Name: "istio", Template: pki.PrivateMTLS, IssuingCA: "ca", Method: method, State: pki.Active,
			Rules: pki.ProfileRules{
				Validity: pki.Validity{Default: pki.Duration(24 * time.Hour), Max: pki.Duration(7 * 24 * time.Hour)},
				Keys:     []pki.KeyAlgorithm{pki.ECDSAP256, pki.RSA2048}, MaxNames: 100,
				ExtKeyUsage: []string{"serverAuth", "clientAuth"},
				Names: pki.NameRules{
					SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local", "other.example"}, Allow: []string{"*/*"}},
					DNS:    pki.DNSRules{Allow: []string{"**.svc", "**.svc.cluster.local"}},
				},
			},
		},
		IssuingCA: &pki.CA{ID: "ca", Name: "issuing", State: pki.Active},
		AgentURL:  "https://ca.example.com:8444",
	}
}

// made is a complete connector.
func made(name string, s *connector.Subject, change func(*pki.Connector)) *pki.Connector {
	c := &pki.Connector{Name: name, CredentialID: "kid1"}
	change(c)
	connector.Complete(c, s)
	return c
}

func input(c *pki.Connector, s *connector.Subject) *connector.Input {
	return &connector.Input{
		Connector: c, Profile: s.Profile, BaseURL: "https://ca.example.com", Directory: "https://ca.example.com/acme/directory",
		AgentURL: s.AgentURL, HMACKey: hmacKey, Roots: root, ServerCA: ownRoot, Chart: []byte("chart"),
	}
}

func pack(t *testing.T, c *pki.Connector, s *connector.Subject) map[string]string {
	t.Helper()
	if err := connector.Check(c, s, today()); err != nil {
		t.Fatal(err)
	}
	files, err := connector.Package(input(c, s))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, f := range files {
		if f.Secret != strings.Contains(string(f.Data), hmacKey) {
			t.Errorf("%s: Secret is %t", f.Name, f.Secret)
		}
		texts[f.Name] = string(f.Data)
	}
	return texts
}

// golden compares a text with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o600)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// fieldsOf lists the fields at fault of everything that was joined, with their sentences.
func fieldsOf(err error) []string {
	var all []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, fieldsOf(one)...)
		}
		return all
	}
	if found, ok := errors.AsType[*fault.Error](err); ok {
		all = append(all, found.Field+": "+found.Public)
	}
	return all
}
