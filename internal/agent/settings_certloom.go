package agent

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/certloom/certloom/internal/agent/certloom"
	"github.com/certloom/certloom/internal/agent/issuer"
)

// CertloomSettings are those of the issuer that asks a Certloom server.
type CertloomSettings struct {
	Server         string // HOST:PORT of the agent listener; "" takes the credential file's
	ServerCAFile   string // PEM; "" is what the system trusts
	CredentialFile string // JSON, as "certloom credential create -o json" prints it
}

// check fills in what the credential file says and returns everything that is wrong. Files are read here to say early
// what is wrong with them, and again when they are used.
func (s *CertloomSettings) check() []error {
	var problems []error
	file, err := readCredentialFile(s.CredentialFile)
	if err != nil {
		problems = append(problems, fmt.Errorf("--credential-file: %w", err))
	}
	if s.Server == "" && file != nil {
		s.Server = file.AgentURL
	}
	if err == nil || s.Server != "" {
		if s.Server, err = hostPort(s.Server); err != nil {
			problems = append(problems, fmt.Errorf("--server: %w", err))
		}
	}
	if _, err := readRoots(s.ServerCAFile); err != nil {
		problems = append(problems, fmt.Errorf("--server-ca-file: %w", err))
	}
	return problems
}

func (a *Agent) newCertloom() (issuer.Issuer, error) {
	c, s := &a.config, &a.config.Settings
	return certloom.New(certloom.Config{
		Server:     s.Certloom.Server,
		Roots:      func() (*x509.CertPool, error) { return readRoots(s.Certloom.ServerCAFile) },
		Credential: func() (certloom.Credential, error) { return readCredential(s.Certloom.CredentialFile) },
		Cluster:    s.ClusterIDs[0], TrustDomain: s.TrustDomain,
		Now: c.Now, Random: c.Random, Logger: c.Logger, Registerer: a.registry,
	})
}

// hostPort takes "https://HOST:PORT" and "HOST:PORT".
func hostPort(server string) (string, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(server, "https://"), "/")
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || strings.ContainsAny(address, "/@ ") {
		return "", fmt.Errorf("%q is not an address such as https://certloom.example.com:8444", server)
	}
	return address, nil
}

// credentialFile is what "certloom credential create -o json" prints, as far as it matters here.
type credentialFile struct {
	AgentURL     string `json:"agentUrl"`
	URL          string `json:"url"`
	DirectoryURL string `json:"directoryUrl"` // of ACME
	KeyID        string `json:"keyId"`
	HMACKey      string `json:"hmacKey"`
}

func readCredentialFile(path string) (*credentialFile, error) {
	if path == "" {
		return nil, errors.New(`is needed: the output of "certloom credential create --profile PROFILE --name NAME -o json"`)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the credential: %w", err)
	}
	var file credentialFile
	// The error of the decoder may quote the file, which is secret.
	if json.Unmarshal(raw, &file) != nil || file.KeyID == "" || file.HMACKey == "" {
		return nil, fmt.Errorf(`%s is not a JSON object with "keyId" and "hmacKey"`, path)
	}
	if file.AgentURL == "" {
		file.AgentURL = file.URL
	}
	return &file, nil
}

func readCredential(path string) (certloom.Credential, error) {
	file, err := readCredentialFile(path)
	if err != nil {
		return certloom.Credential{}, err
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(file.HMACKey))
	if err != nil {
		return certloom.Credential{}, fmt.Errorf("%s: hmacKey is not base64url without padding", path)
	}
	return certloom.Credential{KeyID: file.KeyID, Key: key}, nil
}

// readRoots reads what a server's certificate must lead to; nil is what the system trusts.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // the standard library's word for the system's roots
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the roots of the server's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}
