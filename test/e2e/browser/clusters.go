package browser

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/agent/certloom"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// runClusters has agents of several clusters enrol, and ask for certificates of Pods as Istio's sidecars do.
func (e *Estate) runClusters(ctx context.Context, t testbed.T) {
	t.Helper()
	for cluster, accounts := range map[string][]string{
		"tokyo-1":     {"ledger", "settlement", "fraud", "gateway"},
		"osaka-1":     {"ledger", "settlement", "gateway"},
		"frankfurt-2": {"catalog", "gateway"},
	} {
		if err := e.runCluster(ctx, cluster, accounts); err != nil {
			t.Fatalf("cluster %s: %v", cluster, err)
		}
	}
}

// runCluster is the work of one agent.
func (e *Estate) runCluster(ctx context.Context, cluster string, accounts []string) error {
	key, err := base64.RawURLEncoding.DecodeString(e.Agent.HMACKey)
	if err != nil {
		return fmt.Errorf("read the agent's credential: %w", err)
	}
	address, err := url.Parse(e.Agent.URL)
	if err != nil {
		return fmt.Errorf("read the agent's address: %w", err)
	}
	agent, err := certloom.New(certloom.Config{
		Server: address.Host, Cluster: cluster, TrustDomain: "cluster.local",
		Roots:      func() (*x509.CertPool, error) { return testbed.Roots(e.RootFile) },
		Credential: func() (certloom.Credential, error) { return certloom.Credential{KeyID: e.Agent.KeyID, Key: key}, nil },
		Now:        time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	running, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { _ = agent.Run(running) }) // Ready says what is wrong
	defer func() { stop(); work.Wait(); cancel() }()
	if err := testbed.Poll(ctx, 50*time.Millisecond, func(context.Context) error { return agent.Ready() }); err != nil {
		return err
	}
	for i, account := range accounts {
		if err := issueTo(ctx, agent, cluster, account, i); err != nil {
			return err
		}
	}
	return nil
}

// issueTo gets a certificate for a Pod.
func issueTo(ctx context.Context, agent *certloom.Issuer, cluster, account string, number int) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	id := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/bank-" + cluster + "/sa/" + account}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	_, err = agent.Issue(ctx, issuer.Request{CSR: csr, Lifetime: time.Hour, Caller: issuer.Caller{
		Namespace: "bank-" + cluster, ServiceAccount: account, Cluster: cluster, Node: "node-" + cluster,
		Pod: fmt.Sprintf("%s-7d9f6b5c4d-x%dk2p", account, number), PodUID: "0b7a4c1e-5f0e-4a57-9f0e-3c1d2b4a5f6" + fmt.Sprint(number),
	}})
	return err
}
