package browser

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// Estate is a server that looks lived in: workloads that renew, identities that lapse, certificates that were revoked,
// profiles and credentials of several teams.
type Estate struct {
	*testbed.Certloom

	Serial   string // of a certificate that is alive
	Revoked  string // serial of a certificate that was revoked
	Identity string // whose newest certificate Serial is
	KeyID    string // of a credential

	AuditorPassword string
}

// workloads is how many simulated workloads an estate has: two pages' worth would only make pictures longer.
const workloads = 24

// Auditor is the name of a user who reads everything and changes nothing.
const Auditor = "auditor"

// StartEstate starts a server and fills it, through nothing but its own interfaces.
func StartEstate(ctx context.Context, t testbed.T) *Estate {
	t.Helper()
	e := &Estate{Certloom: testbed.StartCertloom(ctx, t, testbed.Options{DemoWorkloads: workloads})}
	for _, args := range [][]string{
		{"ca", "create-issuing", "mesh-2", "--parent", "root"},
		{
			"profile", "create", "payments", "--template", "private-mtls", "--issuing-ca", "mesh-2", "--trust-domain", "cluster.local",
			"--allow-spiffe", "payments/*", "--deny-spiffe", "payments/default", "--validity", "1h",
		},
		{
			"profile", "create", "web", "--template", "private-server", "--issuing-ca", "issuing", "--allow-dns", "**.example.com",
			"--allow-ip", "10.0.0.0/8", "--validity", "720h",
		},
		{
			"profile", "create", "batch", "--template", "private-mtls", "--method", "rest-api", "--issuing-ca", "issuing",
			"--trust-domain", "cluster.local", "--allow-namespace", "*", "--validity", "6h",
		},
		{
			"profile", "create", "legacy", "--template", "private-server", "--method", "rest-api", "--issuing-ca", "issuing",
			"--allow-dns", "**.example.com", "--validity", "2h", "--backdate", "1h",
		},
		{"profile", "create", "retired", "--template", "private-client", "--issuing-ca", "issuing", "--allow-dns", "*.old.example.com", "--suspended"},
	} {
		e.CLI(ctx, t, args...)
	}
	e.AuditorPassword = rand.Text()
	file := filepath.Join(testbed.Folder(t), "password")
	if err := os.WriteFile(file, []byte(e.AuditorPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	e.CLI(ctx, t, "user", "create", Auditor, "--role", "auditor", "--display-name", "Aiko Tanaka", "--email", "aiko@example.com", "--password-file", file)
	e.CLI(ctx, t, "view", "create", "Night shift", "--of", "identities", "--filter", "namespace=batch", "--shared")
	e.CLI(ctx, t, "connector", "istio", "--profile", "istio", "--credential", "prod-eu", "--mode", "cert-manager", "--out", filepath.Join(testbed.Folder(t), "prod-eu"))
	for _, name := range []string{"tokyo-1", "osaka-1", "frankfurt-2"} {
		e.KeyID = e.CreateCredential(ctx, t, "istio", name).KeyID
	}
	e.CreateCredential(ctx, t, "payments", "ledger")
	e.CreateCredential(ctx, t, "web", "gateway")
	for i, host := range []string{"billing.example.com", "ftp.example.com"} {
		// The last fifth of a lifetime that began an hour ago: such an identity lapses from the start.
		e.request(ctx, t, fmt.Sprintf("legacy-%d", i), "legacy", "--dns", host, "--validity", "15m")
	}
	var serial string
	for i, account := range []string{"report", "cleanup", "export", "import", "report"} {
		e.Identity = "spiffe://cluster.local/ns/batch/sa/" + account
		serial = e.request(ctx, t, fmt.Sprintf("batch-%d", i), "batch", "--spiffe", e.Identity)
		if account == "cleanup" || account == "import" {
			e.CLI(ctx, t, "certificate", "revoke", serial, "--reason", "keyCompromise")
			e.Revoked = serial
		}
	}
	e.Serial = serial
	e.runClusters(ctx, t)
	e.awaitWorkloads(ctx, t)
	return e
}

// request asks for a certificate for a new key and returns its serial.
func (e *Estate) request(ctx context.Context, t testbed.T, name, profile string, names ...string) string {
	t.Helper()
	key := filepath.Join(testbed.Folder(t), name+".key")
	out := e.CLI(ctx, t, append([]string{"certificate", "request", "--profile", profile, "--key-out", key, "-o", "json"}, names...)...)
	var made struct {
		Certificate apiv1.Certificate `json:"certificate"`
	}
	if err := json.Unmarshal(out, &made); err != nil || made.Certificate.Serial == "" {
		t.Fatalf("certificate request -o json: %v\n%s", err, out)
	}
	return made.Certificate.Serial
}

// awaitWorkloads waits until every workload has its first certificate.
func (e *Estate) awaitWorkloads(ctx context.Context, t testbed.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := testbed.Poll(ctx, 250*time.Millisecond, func(ctx context.Context) error {
		var list []apiv1.Identity
		if err := json.Unmarshal(e.CLI(ctx, t, "identity", "list", "--limit", "0", "-o", "json"), &list); err != nil {
			return fmt.Errorf("identity list -o json: %w", err)
		}
		if len(list) < workloads {
			return fmt.Errorf("%d identities", len(list))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
