package e2e_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// receiver is a receiver of webhooks, which remembers what it was told.
type receiver struct {
	mu       sync.Mutex
	firing   map[string]pki.MessageAlert
	resolved map[string]bool
	messages map[string]int // by their identifiers
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var event struct {
		ID   string      `json:"id"`
		Data pki.Message `json:"data"`
	}
	if err = errors.Join(err, json.Unmarshal(body, &event)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages[event.ID]++
	for _, a := range event.Data.Alerts {
		if event.Data.State == pki.MessageResolved {
			r.resolved[a.Subject] = true
		} else {
			r.firing[a.Subject] = a
		}
	}
}

// told returns the subjects of alerts, and of those that have ended.
func (r *receiver) told() (firing, resolved []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for subject := range r.firing {
		firing = append(firing, subject)
	}
	for subject := range r.resolved {
		resolved = append(resolved, subject)
	}
	slices.Sort(firing)
	slices.Sort(resolved)
	return firing, resolved
}

// workloads are what renews, each with a Pod in the cluster.
type workloads struct {
	caller *testbed.Caller
	asks   map[string]testbed.Ask // by identity
}

// renew gets certificates for all but some.
func (w *workloads) renew(ctx context.Context, but ...string) error {
	var all errgroup.Group
	all.SetLimit(32)
	for identity, ask := range w.asks {
		if slices.Contains(but, identity) {
			continue
		}
		all.Go(func() error {
			if _, err := w.caller.Create(ctx, ask); err != nil {
				return fmt.Errorf("%s: %w", identity, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// renewUntil renews all but some every few seconds, until the check has nothing to say.
func (w *workloads) renewUntil(t *testing.T, away []string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err := testbed.Poll(ctx, 5*time.Second, func(ctx context.Context) error {
		err := check()
		if err == nil {
			return nil
		}
		if renewing := w.renew(ctx, away...); renewing != nil {
			return testbed.Final(errors.Join(renewing, err))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLifecycle lets 20 of 100 workloads stop renewing, and deletes 20 others: those that stop, and nothing else, are told to
// a receiver, and told again when they renew.
func TestLifecycle(t *testing.T) {
	const count, some, period = 100, 20, 2 * time.Second
	cluster := testbed.StartCluster(t.Context(), t)
	cluster.Kubectl(t.Context(), t, "create", "namespace", "demo")
	cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{Settings: fmt.Sprintf("alerts: {interval: %s}\n", period)})
	server.CLI(t.Context(), t, "profile", "create", "mesh", "--template", "private-mtls", "--method", "agent", "--issuing-ca", "issuing",
		"--trust-domain", "cluster.local", "--allow-namespace", "*", "--allow-dns", "**.svc", "--allow-dns", "**.svc.cluster.local")
	credential := filepath.Join(testbed.Folder(t), "credential.json")
	if err := os.WriteFile(credential, server.CLI(t.Context(), t, "credential", "create", "--profile", "mesh", "--name", "east", "-o", "json"), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := testbed.LaunchAgent(t.Context(), t, cluster, testbed.AgentOptions{
		Args: []string{"--credential-file=" + credential, "--server-ca-file=" + server.CAFile}, RootFile: server.RootFile,
	})
	told := &receiver{firing: map[string]pki.MessageAlert{}, resolved: map[string]bool{}, messages: map[string]int{}}
	hooks := httptest.NewServer(told)
	t.Cleanup(hooks.Close)
	server.CLI(t.Context(), t, "channel", "create", "hook", "--kind", "webhook", "--url", hooks.URL, "--allow-private")

	w := &workloads{caller: agent.Connect(t), asks: map[string]testbed.Ask{}}
	var names []string
	for i := range count {
		name := fmt.Sprintf("w-%04d", i)
		account := cluster.CreateAccount(t.Context(), t, "demo", name)
		pod := cluster.CreatePod(t.Context(), t, "demo", name, name, "node-1")
		w.asks[identityOf(account)] = testbed.Ask{
			Token: cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: requestOf(t, &x509.CertificateRequest{}, identityOf(account)), Seconds: 80,
		}
		names = append(names, identityOf(account))
	}
	stopped, deleted := names[:some], names[some:2*some]
	began := time.Now()
	if err := w.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d first certificates in %s", count, time.Since(began))
	for i := range some {
		cluster.DeletePod(t.Context(), t, "demo", fmt.Sprintf("w-%04d", some+i))
	}

	w.renewUntil(t, slices.Concat(stopped, deleted), func() error {
		if firing, _ := told.told(); !slices.Equal(firing, stopped) {
			return fmt.Errorf("told of %d identities: %v", len(firing), firing)
		}
		return nil
	})
	gone := server.CLI(t.Context(), t, "identity", "list", "--status", "gone", "--limit", "0", "-o", "json")
	var marked []struct{ Name string }
	if err := json.Unmarshal(gone, &marked); err != nil || len(marked) != some {
		t.Errorf("%d identities are gone, want %d: %v", len(marked), some, err)
	}
	for _, i := range marked {
		if !slices.Contains(deleted, i.Name) {
			t.Errorf("%s is gone", i.Name)
		}
	}
	w.renewUntil(t, deleted, func() error {
		if _, resolved := told.told(); !slices.Equal(resolved, stopped) {
			return fmt.Errorf("told of the end of %d: %v", len(resolved), resolved)
		}
		return nil
	})
	if firing, _ := told.told(); !slices.Equal(firing, stopped) {
		t.Errorf("told of others than the stopped ones: %v", firing)
	}
	t.Logf("%d messages; alerts of %d identities of %d, and their ends", len(told.messages), len(told.firing), count)
}
