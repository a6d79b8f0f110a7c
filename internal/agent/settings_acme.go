package agent

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/agent/acme"
	"github.com/certloom/certloom/internal/agent/issuer"
)

// ACMESettings are those of the issuer that asks an ACME CA.
type ACMESettings struct {
	DirectoryURL   string // "" takes the credential file's
	CAFile         string // roots of the CA's TLS certificate in PEM; "" is what the system trusts
	CredentialFile string // JSON, as "certloom credential create -o json" prints it; "" for none
	EABKeyID       string // instead of the file: key ID and the file with the HMAC key in base64url
	EABKeyFile     string
	Email          string
	Profile        string // ACME profile; "" for none

	AccountSecret    string
	AccountNamespace string // "" is that of the Lease
	Concurrency      int    // orders under way at once
}

// checkACME fills in what the credential file says and returns everything that is wrong.
func (s *Settings) checkACME() []error {
	problems := s.ACME.checkBinding()
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.ACME.DirectoryURL == "" && len(problems) > 0 {
		// What the file would have said is not known.
	} else if err := acme.CheckDirectoryURL(s.ACME.DirectoryURL); err != nil {
		bad("--acme-directory: %w", err)
	}
	if _, err := readRoots(s.ACME.CAFile); err != nil {
		bad("--acme-ca-file: %w", err)
	}
	if address, err := mail.ParseAddress(s.ACME.Email); s.ACME.Email != "" && (err != nil || address.Address != s.ACME.Email) {
		bad("--acme-email: %q is not an address such as mesh@example.com", s.ACME.Email)
	}
	if s.ACME.AccountNamespace == "" {
		s.ACME.AccountNamespace = s.LeaseNamespace
	} else if faults := validation.IsDNS1123Label(s.ACME.AccountNamespace); len(faults) > 0 {
		bad("--acme-account-namespace: %q is not a name in Kubernetes: %s", s.ACME.AccountNamespace, strings.Join(faults, "; "))
	}
	if faults := validation.IsDNS1123Subdomain(s.ACME.AccountSecret); len(faults) > 0 {
		bad("--acme-account-secret: %q is not a name in Kubernetes: %s", s.ACME.AccountSecret, strings.Join(faults, "; "))
	}
	if s.ACME.Concurrency < 1 || s.ACME.Concurrency > 1000 {
		bad("--acme-max-concurrent-orders: %d is not between 1 and 1000", s.ACME.Concurrency)
	}
	if s.RootCAFile == "" {
		bad("--root-ca-file: is needed: an ACME CA does not tell its roots")
	} else if _, err := issuer.ReadRoots(s.RootCAFile); err != nil {
		bad("--root-ca-file: %w", err)
	}
	return problems
}

// checkBinding checks the EAB credential, which there may be none of.
func (s *ACMESettings) checkBinding() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch {
	case s.CredentialFile != "" && (s.EABKeyID != "" || s.EABKeyFile != ""):
		bad("--credential-file: cannot be used together with --acme-eab-key-id and --acme-eab-key-file")
	case s.CredentialFile != "":
		file, err := readCredentialFile(s.CredentialFile)
		if err == nil {
			_, err = readBinding(s)
		}
		if err != nil {
			bad("--credential-file: %w", err)
		} else if s.DirectoryURL == "" {
			s.DirectoryURL = file.DirectoryURL
		}
	case s.EABKeyID != "" && s.EABKeyFile == "":
		bad("--acme-eab-key-file: is needed with --acme-eab-key-id")
	case s.EABKeyID == "" && s.EABKeyFile != "":
		bad("--acme-eab-key-id: is needed with --acme-eab-key-file")
	case s.EABKeyFile != "":
		if _, err := readBinding(s); err != nil {
			bad("--acme-eab-key-file: %w", err)
		}
	}
	return problems
}

// readBinding reads the EAB credential, nil when there is none.
func readBinding(s *ACMESettings) (*acmeclient.Binding, error) {
	if s.CredentialFile != "" {
		file, err := readCredentialFile(s.CredentialFile)
		if err != nil {
			return nil, err
		}
		key, err := macKey(file.HMACKey)
		if err != nil {
			return nil, fmt.Errorf("%s: hmacKey: %w", s.CredentialFile, err)
		}
		return &acmeclient.Binding{KeyID: file.KeyID, HMACKey: key}, nil
	}
	if s.EABKeyFile == "" {
		return nil, nil //nolint:nilnil // as the caller is told
	}
	raw, err := os.ReadFile(s.EABKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the EAB key: %w", err)
	}
	key, err := macKey(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.EABKeyFile, err)
	}
	return &acmeclient.Binding{KeyID: s.EABKeyID, HMACKey: key}, nil
}

// macKey reads an HMAC key as CAs hand it out: in base64url, with or without padding and a line's end. The other alphabet is
// taken as well, since no text is a different key in both. The error does not tell what was read.
func macKey(text string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	key, err := base64.RawURLEncoding.Strict().DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	if err != nil || len(key) == 0 {
		return nil, errors.New("is not an HMAC key in base64url")
	}
	return key, nil
}

func (a *Agent) newACME() (issuer.Issuer, error) {
	c, s := &a.config, &a.config.Settings
	roots, err := issuer.NewRootFile(issuer.RootFileConfig{Path: s.RootCAFile, Now: c.Now, Logger: c.Logger, Registerer: a.registry})
	if err != nil {
		return nil, fmt.Errorf("--root-ca-file: %w", err)
	}
	return acme.New(acme.Config{
		DirectoryURL: s.ACME.DirectoryURL,
		TLSRoots:     func() (*x509.CertPool, error) { return readRoots(s.ACME.CAFile) },
		Binding:      func() (*acmeclient.Binding, error) { return readBinding(&s.ACME) },
		Email:        strings.ToLower(s.ACME.Email), Profile: s.ACME.Profile,
		Secret: s.ACME.AccountSecret, Secrets: c.Kube.CoreV1().Secrets(s.ACME.AccountNamespace),
		Roots: roots, Own: s.ServingNames, Concurrency: s.ACME.Concurrency, Proxy: http.ProxyFromEnvironment,
		Now: c.Now, Random: c.Random, Logger: c.Logger, Registerer: a.registry,
	})
}
