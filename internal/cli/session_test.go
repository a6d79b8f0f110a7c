package cli_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// Each of these is a session at a desk; its golden file is what somebody would see.

func TestCASession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	h := testca.New(t)
	d.file(t, "issuing.pem", certPEM(h.IssuingCert.Raw))
	d.file(t, "outside.pem", certPEM(h.RootCert.Raw))
	der, err := x509.MarshalPKCS8PrivateKey(h.IssuingKey)
	if err != nil {
		t.Fatal(err)
	}
	d.file(t, "issuing-key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	for _, line := range []string{
		"ca list",
		"ca create-root mesh-root --common-name 'Mesh Root' --organization Example --validity 15y --path-length 2 --permit-trust-domain cluster.local",
		"ca create-issuing mesh --parent mesh-root --path-length 1",
		"ca create-issuing mesh --parent mesh-root",
		"ca list",
		"ca list -o json",
		"ca get mesh --pem --chain",
		"ca get mesh --chain",
		"ca settings mesh --crl-url http://pki.example/a.crl --crl-url http://pki.example/b.crl --ocsp-url ''",
		"ca settings mesh",
		"ca settings mesh --crl-url nonsense --issuer-url ftp://x.example",
		"ca suspend mesh",
		"ca create-issuing below --parent mesh",
		"ca activate mesh",
		"ca revoke mesh --reason cACompromise",
		"ca revoke mesh --reason boredom --yes",
		"ca revoke mesh-root --yes",
		"ca revoke mesh --reason cACompromise --yes",
		"ca revoke mesh --yes",
		"ca activate mesh",
		"ca create-issuing outside",
		"ca get outside --pem",
		"ca csr outside",
		"ca csr mesh",
		"ca install outside --certificate DIR/issuing.pem --chain DIR/outside.pem",
		"ca install outside",
		"ca import old --certificate DIR/issuing.pem --chain DIR/outside.pem --key DIR/issuing-key.pem",
		"ca import old --certificate DIR/nothing.pem --key DIR/issuing-key.pem",
		"ca get nope",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestProfileSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	for _, line := range []string{
		"profile create mesh --template private-mtls --issuing-ca issuing --trust-domain a.example --allow-namespace 'team-*' --allow-spiffe 'ops/*' --deny-spiffe 'team-x/*' --allow-dns '**.svc' --validity 12h --jitter 5",
		"profile create long --template private-mtls --issuing-ca issuing --allow-dns '**.svc' --validity 30d",
		"profile create open --template private-server --issuing-ca issuing --allow-dns '**.example.com' --allow-ip 10.0.0.0/8 --challenge http-01 --challenge-network 10.0.0.0/8 --wildcards",
		"profile create rest --template private-client --method rest-api --issuing-ca issuing --allow-dns '*.ci.example.com'",
		"profile create bad --template private-mtls --issuing-ca root --trust-domain 'A B' --key dsa --max-validity 20y",
		"profile create bad",
		"profile create bad --template private-mtls --issuing-ca issuing --validity soon",
		"profile list",
		"profile get mesh -o yaml",
		"profile check mesh --spiffe-id spiffe://a.example/ns/team-a/sa/web",
		"profile check mesh --spiffe-id spiffe://a.example/ns/team-x/sa/web --key rsa-2048 --validity 400d",
		"profile check open --dns www.example.com --dns www.example.org --common-name www.example.com",
		"profile check mesh",
		"profile check mesh --csr DIR/nothing.pem",
		"profile update mesh --validity 6h --allow-dns a.svc --allow-dns b.svc --deny-spiffe ''",
		"profile update mesh --max-names 0",
		"profile update open --no-challenges",
		"profile clone mesh mesh-2",
		"profile clone mesh mesh-2",
		"profile suspend mesh-2",
		"profile activate mesh-2",
		"profile delete mesh-2",
		"profile delete mesh-2 -o json",
		"profile get mesh-2",
	} {
		d.enter(t, line)
	}
	text := d.run(t, "profile", "get", "mesh", "-o", "yaml").stdout
	d.file(t, "mesh.yaml", text)
	d.enter(t, "profile create mesh-3 --from-file DIR/mesh.yaml --validity 1h")
	d.enter(t, "profile create mesh-4 --from-file DIR/token")
	d.check(t)
}

func TestCredentialSession(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	for _, line := range []string{
		"credential create --profile istio --name cluster-1 --expires 90d",
		"credential create --profile istio --name cluster-2 -o json",
		"credential create --profile istio --name cluster-3 -o yaml --expires 2026-06-01T00:00:00Z --max-accounts 3",
		"credential create --profile istio --name team-a --allow-namespace 'team-a-*' --allow-dns '**.team-a.svc'",
		"credential create --profile istio --name wide --allow-dns '**' --wildcards",
		"credential create --profile istio --name cluster-1",
		"credential create --profile ci --name x",
		"credential create --profile istio --name x --expires tomorrow",
		"credential create --name x",
		"credential list",
		"credential list --profile web",
		"credential list --limit 1 -o json",
		"credential revoke istio/cluster-1",
		"credential revoke istio/nobody",
		"credential revoke nobody",
		"credential list --profile istio -o json",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

// TestCredentialJSON is the contract with scripts: these three members, and nothing else on standard output.
func TestCredentialJSON(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	r := d.run(t, "credential", "create", "--profile", "istio", "--name", "x", "-o", "json")
	var members map[string]string
	if err := json.Unmarshal([]byte(r.stdout), &members); err != nil || len(members) != 3 || r.stderr != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, name := range []string{"directoryUrl", "keyId", "hmacKey"} {
		if members[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

// inventory has some certificates, one of them revoked.
func inventory(t *testing.T) *desk {
	t.Helper()
	w := apitest.New(t)
	for i := range 4 {
		w.Issue(t, "istio", testca.Request{URIs: []string{fmt.Sprintf("spiffe://cluster.local/ns/ns-%d/sa/app", i%2)}})
		w.Clock.Advance(5 * time.Hour)
	}
	c := w.Issue(t, "web", testca.Request{DNS: []string{"www.example.com", "example-1.example.com"}})
	d := newDesk(t, w, pki.RoleAdmin)
	d.env["SERIAL"] = string(c.Serial)
	return d
}

func TestStatisticsSession(t *testing.T) {
	t.Parallel()
	d := inventory(t)
	for _, line := range []string{"statistics", "statistics now", "statistics -o yaml"} {
		d.enter(t, line)
	}
	d.check(t)
}

func TestCertificateSession(t *testing.T) {
	t.Parallel()
	d := inventory(t)
	serial := d.env["SERIAL"]
	d.file(t, "request.csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: testca.SPIFFECSR(t)})))
	for _, line := range []string{
		"certificate list",
		"certificate list --limit 2",
		"certificate list --namespace ns-0 --status renewal-due -o yaml",
		"certificate list --identity 'spiffe://cluster.local/ns/ns-1/*' --issued-after 12h",
		"certificate list --expires-before 1d --profile istio",
		"certificate list --profile nope --status fine",
		"certificate list --issued-after yesterday",
		"certificate get " + serial,
		"certificate get " + serial + " -o json",
		"certificate get " + serial + " --pem --chain",
		"certificate get xyz",
		"certificate revoke " + serial + " --reason keyCompromise",
		"certificate revoke " + serial,
		"certificate revoke " + serial + " --reason boredom",
		"certificate get " + serial,
		"certificate export --format csv --profile web",
		"certificate export --out DIR/all.pem",
		"certificate export --out DIR/all.json --namespace ns-0",
		"certificate export --format xml",
		"certificate export --out DIR/no/such/folder.json",
		"certificate request --profile ci --csr DIR/request.csr",
		"certificate request --profile ci --csr DIR/request.csr --out DIR/cert.pem --validity 1h",
		"certificate request --profile ci --dns web.demo.svc --key-out DIR/key.pem -o json",
		"certificate request --profile ci --dns web.demo.svc --key-out DIR/key.pem",
		"certificate request --profile ci --dns www.example.com --key-out DIR/key-2.pem",
		"certificate request --profile ci --dns www.demo.svc --key-out DIR/key-2.pem --out DIR/cert-2.pem --validity 365d",
		"certificate request --profile ci",
		"certificate request --profile istio --csr DIR/request.csr",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

// Revocation by identity and credential goes on where it was interrupted, and the deny list keeps both away.
func TestRevocationSession(t *testing.T) {
	t.Parallel()
	d := inventory(t)
	serial := d.env["SERIAL"]
	for _, line := range []string{
		"certificate hold " + serial,
		"certificate hold " + serial,
		"certificate list --status held",
		"certificate release " + serial,
		"certificate release " + serial,
		"identity revoke 'spiffe://cluster.local/ns/ns-1/*' --reason keyCompromise",
		"identity revoke 'spiffe://cluster.local/ns/ns-1/*' --reason keyCompromise --note 'incident 4711' --yes",
		"identity revoke 'spiffe://cluster.local/ns/ns-1/*' --yes",
		"identity deny --pod east/shop/cart-1 --until 7d",
		"identity deny --pod cart-1",
		"identity deny '*'",
		"identity deny",
		"identity denied",
		"identity allow 'spiffe://cluster.local/ns/ns-1/*'",
		"identity allow 'spiffe://cluster.local/ns/ns-1/*'",
		"identity allow --pod east/shop/cart-1",
		"identity denied",
		"credential create --profile istio --name cluster-1",
		"credential revoke istio/cluster-1 --certificates",
		"credential revoke istio/cluster-1 --certificates --reason superseded --yes",
		"audit list --action identity.deny",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

func TestRequestedFiles(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleRequester)
	key, cert := filepath.Join(d.dir, "key.pem"), filepath.Join(d.dir, "cert.pem")
	r := d.run(t, "certificate", "request", "--profile", "ci", "--spiffe", testca.SPIFFE, "--dns", "a.svc", "--key-out", key, "--out", cert)
	if r.code != 0 || r.stdout != "" {
		t.Fatalf("%+v", r)
	}
	info, err := os.Stat(key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file %v, %v", info, err)
	}
	raw, err := os.ReadFile(cert)
	if err != nil || strings.Count(string(raw), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("certificate file %s, %v", raw, err)
	}
}

func TestExportedFiles(t *testing.T) {
	t.Parallel()
	d := inventory(t)
	for name, want := range map[string]int{"all.json": 5, "all.csv": 5, "all.pem": 5} {
		path := filepath.Join(d.dir, name)
		r := d.run(t, "certificate", "export", "--out", path)
		if r.code != 0 || r.stdout != "" || !strings.HasPrefix(r.stderr, fmt.Sprintf("%d certificates written to ", want)) {
			t.Errorf("%s: %+v", name, r)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(d.dir, ".certloom-export-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestIdentitySession(t *testing.T) {
	t.Parallel()
	d := inventory(t)
	for _, line := range []string{
		"identity list",
		"identity list --status renewal-due",
		"identity list --namespace ns-1 -o json",
		"identity get spiffe://cluster.local/ns/ns-1/sa/app",
		"identity get www.example.com -o yaml",
		"identity get nobody",
		"identity list --status fine",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

func TestTokenSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	d.enter(t, "token create ci --role requester --profile ci --expires never -o json")
	d.world.Clock.Advance(time.Second)
	for _, line := range []string{
		"token create dashboard --role auditor",
		"token create ci --role requester --profile ci",
		"token create X --role king --expires 2020-01-01T00:00:00Z",
		"token create x",
		"token create",
		"token list",
		"token revoke dashboard",
		"token revoke dashboard",
		"token revoke ci",
		"token list -o yaml",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

func TestUserSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	if err := os.WriteFile(filepath.Join(d.dir, "password.txt"), []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"user create ann --role operator --password-file DIR/password.txt",
		"user create shop --role namespace-viewer --sees 'spiffe://cluster.local/ns/shop/*' --password-file DIR/password.txt",
		"user create Bob --role king --password-file DIR/password.txt",
		"user create bob",
		"user update ann --role auditor --email ann@example.com",
		"user suspend ann",
		"user suspend admin",
		"user reset-password ann --password-file DIR/password.txt",
		"user unlock ann",
		"user list",
		"user delete admin",
		"user delete ann",
		"user delete ann",
		"user list -o yaml",
		"session list",
		"session end none",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

func TestImportedSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	others, err := os.ReadFile(filepath.Join("testdata", "others.pem"))
	if err != nil {
		t.Fatal(err)
	}
	d.file(t, "others.pem", string(others))
	d.file(t, "broken.pem", "-----BEGIN CERTIFICATE-----\n")
	for _, line := range []string{
		"imported add DIR/others.pem",
		"imported add DIR/others.pem -o json",
		"imported add DIR/broken.pem",
		"imported add DIR/none.pem",
		"imported list",
		"imported list --expires-within 30d -o yaml",
		"imported list --level at-risk --status expired",
		"imported list --status gone",
		"imported get FINGERPRINT",
		"imported get 1234",
		"imported get 1234567890",
		"imported delete FINGERPRINT",
		"imported list",
	} {
		d.enter(t, strings.ReplaceAll(line, "FINGERPRINT", "a0b2ab6fa5df"))
	}
	d.check(t)
}

func TestAuditSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	d.run(t, "profile", "update", "istio", "--validity", "1h", "--allow-dns", "a.svc")
	d.run(t, "credential", "create", "--profile", "istio", "--name", "c")
	d.run(t, "certificate", "request", "--profile", "ci", "--dns", "www.example.com", "--key-out", filepath.Join(d.dir, "key.pem"))
	d.world.Clock.Advance(3 * time.Hour)
	for _, line := range []string{
		"audit list",
		"audit list --limit 2",
		"audit list --action 'profile.*' --target istio",
		"audit list --outcome refused -o yaml",
		"audit list --since 1h",
		"audit list --outcome fine",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

func TestDoctorSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAuditor)
	d.world.Server.TLS.Certificates[0].Leaf = nil
	d.enter(t, "doctor")
	d.enter(t, "doctor -o json")
	if _, err := d.world.Catalog.SetCAState(t.Context(), d.world.Catalog.Snapshot().CAs()[0].ID, pki.Suspended, apitest.System()); err != nil {
		t.Fatal(err)
	}
	d.world.Clock.Advance(time.Minute)
	d.enter(t, "doctor")
	d.env["CERTLOOM_TOKEN_FILE"] = d.file(t, "other", d.world.Tokens[pki.RoleRequester])
	d.enter(t, "doctor")
	d.env["CERTLOOM_TOKEN_FILE"] = d.file(t, "wrong", "clt_"+strings.Repeat("A", 43))
	d.enter(t, "doctor")
	d.env["CERTLOOM_TOKEN_FILE"] = ""
	d.enter(t, "doctor")
	d.env["CERTLOOM_CA_FILE"] = d.file(t, "stranger.pem", certPEM(testca.New(t).RootCert.Raw))
	d.enter(t, "doctor")
	d.env["CERTLOOM_SERVER"] = ""
	d.enter(t, "doctor")
	d.check(t)
}

func TestUsageSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAuditor)
	for _, line := range []string{
		"--version",
		"nonsense",
		"certificat list",
		"ca lst",
		"ca get",
		"ca get a b",
		"ca get a --colour red",
		"ca list -o xml",
		"ca list --timeout soon",
		"ca list --server http://127.0.0.1",
		"ca list --server hello",
		"ca list --token-file DIR/nothing",
		"ca list --ca-file DIR/token",
		"ca create-root x",
	} {
		d.enter(t, line)
	}
	d.check(t)
}
