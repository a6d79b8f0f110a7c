package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
)

// StepCA is Smallstep's CA with an ACME provisioner, the peer of the benchmark.
type StepCA struct {
	DirectoryURL string
	RootFile     string

	process *Process
}

// StartStepCA starts it with its defaults: a Badger database, a P-256 hierarchy, 24-hour certificates. Validations
// resolve names with that DNS server and ask http-01 on that port.
func StartStepCA(ctx context.Context, t T, resolver string, httpPort int) *StepCA {
	t.Helper()
	built := ensure(ctx, t, "stepca")
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir, port := Folder(t), Ports(t, 1)
	if err := writeStepCA(dir, port); err != nil {
		t.Fatal(err)
	}
	s := &StepCA{
		DirectoryURL: fmt.Sprintf("https://localhost:%d/acme/acme/directory", port), RootFile: filepath.Join(dir, "root.pem"),
	}
	s.process = Start(t, Program{
		Name: "step-ca", Path: filepath.Join(built["stepca"], "bin", "step-ca"), Dir: dir, Env: []string{"STEPPATH=" + dir},
		Args: []string{filepath.Join(dir, "ca.json"), "--insecure", fmt.Sprintf("--acme-http-port=%d", httpPort), "--resolver=" + resolver},
	})
	client := s.HTTPClient(t)
	if err := s.process.Await(ctx, answers(client, fmt.Sprintf("https://localhost:%d/health", port))); err != nil {
		t.Fatal(err)
	}
	return s
}

// HTTPClient returns a client that trusts the peer.
func (s *StepCA) HTTPClient(t T) *http.Client {
	t.Helper()
	client, err := TrustingClient(s.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// Process is the running peer.
func (s *StepCA) Process() *Process { return s.process }

// writeStepCA writes what "step ca init" would ask for and write.
func writeStepCA(dir string, port int) error {
	root, err := newAuthority("Peer Root CA")
	if err != nil {
		return err
	}
	issuing, err := root.issuing("Peer Issuing CA")
	if err != nil {
		return err
	}
	key, err := KeyPEM(issuing.key)
	if err != nil {
		return err
	}
	settings, err := json.Marshal(map[string]any{
		"root": filepath.Join(dir, "root.pem"), "crt": filepath.Join(dir, "issuing.pem"), "key": filepath.Join(dir, "issuing.key"),
		"address": Addr(port), "dnsNames": []string{"localhost", "127.0.0.1"},
		"db": map[string]any{"type": "badgerv2", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []any{
			map[string]any{"type": "ACME", "name": "acme", "challenges": []string{"http-01"}},
		}},
	})
	if err != nil {
		return fmt.Errorf("encode the peer's settings: %w", err)
	}
	return writeFiles(dir, map[string][]byte{
		"root.pem": CertificatePEM(root.cert.Raw), "issuing.pem": CertificatePEM(issuing.cert.Raw), "issuing.key": key,
		"ca.json": settings,
	})
}
