package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// field is a cluster with a server and two agents that verify tokens in their two ways.
type field struct {
	cluster *testbed.Cluster
	server  *testbed.Certloom
	agents  map[string]*testbed.Agent
	callers map[string]*testbed.Caller
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{cluster: testbed.StartCluster(t.Context(), t), server: testbed.StartCertloom(t.Context(), t, testbed.Options{})}
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "demo")
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	f.agents = map[string]*testbed.Agent{
		"local":  testbed.StartAgent(t.Context(), t, f.cluster, f.server, "--ca-trusted-node-accounts=istio-system/ztunnel"),
		"review": testbed.StartAgent(t.Context(), t, f.cluster, f.server, "--token-review", "--enable-client-cert-authenticator=false"),
	}
	f.callers = map[string]*testbed.Caller{}
	for name, agent := range f.agents {
		f.callers[name] = agent.Connect(t)
	}
	return f
}

// workload makes a ServiceAccount and a Pod of it.
func (f *field) workload(t *testing.T, name string) (*corev1.ServiceAccount, *corev1.Pod) {
	t.Helper()
	account := f.cluster.CreateAccount(t.Context(), t, "demo", name)
	return account, f.cluster.CreatePod(t.Context(), t, "demo", name, name, "node-1")
}

func identityOf(account *corev1.ServiceAccount) string {
	return "spiffe://cluster.local/ns/" + account.Namespace + "/sa/" + account.Name
}

// TestAgent shows that unmodified callers of Istio's certificate service get what they should from certloom-agent, and
// nothing else.
func TestAgent(t *testing.T) {
	f := newField(t)
	t.Run("token", f.testTokens)
	t.Run("csr", f.testRequests)
	t.Run("impersonation", f.testImpersonation)
	t.Run("crl-configmap", f.testCRLMap)
	t.Run("trust-bundles", f.testTrustBundles)
	t.Run("early-istiod", f.testEarlyIstiod)
	t.Run("client-certificate", f.testClientCertificate)
	t.Run("revoked-certificate", f.testRevokedCertificate)
	t.Run("other-ca", f.testOtherCA)
	t.Run("inventory", f.testInventory)
	t.Run("root-configmap", f.testRootMap)
	t.Run("istiod-secret", f.testIstiodSecret)
	t.Run("server-gone", f.testServerGone)
	t.Run("permissions", f.testPermissions)
	t.Run("token/key-rotated", f.testKeyRotated) // the API server restarts, and forbids everything for a moment
	t.Run("operation", f.testOperation)
}

// forge makes a token as the API server would, but with claims and a header of the test's choice.
func (f *field) forge(t *testing.T, token string, header, claims map[string]any, sign func(input string) []byte) string {
	t.Helper()
	parts := strings.Split(token, ".")
	merged := make([]string, 2)
	for i, changes := range []map[string]any{header, claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]any{}
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		maps.Copy(fields, changes)
		for name, value := range fields {
			if value == nil {
				delete(fields, name)
			}
		}
		if raw, err = json.Marshal(fields); err != nil {
			t.Fatal(err)
		}
		merged[i] = base64.RawURLEncoding.EncodeToString(raw)
	}
	input := merged[0] + "." + merged[1]
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

// signES256 signs a token's input (RFC 7518 section 3.4).
func signES256(t *testing.T, key *ecdsa.PrivateKey, input string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}

func (f *field) testTokens(t *testing.T) {
	account, pod := f.workload(t, "tokens")
	good := f.cluster.Token(t.Context(), t, account, pod, "istio-ca")
	unbound := f.cluster.Token(t.Context(), t, account, nil, "istio-ca")
	now := time.Now().Unix()
	key, other := f.cluster.SigningKey(t), newECKey(t)
	own := func(input string) []byte { return signES256(t, key, input) }
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(input string) []byte {
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
	parts := strings.Split(good, ".")

	for name, ask := range map[string]struct {
		testbed.Ask
		want codes.Code
	}{
		"accepts/bound-to-pod":          {testbed.Ask{Token: good}, codes.OK},
		"accepts/bound-to-nothing":      {testbed.Ask{Token: unbound}, codes.OK},
		"accepts/several-audiences":     {testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "other", "istio-ca")}, codes.OK},
		"accepts/signed-by-the-test":    {testbed.Ask{Token: f.forge(t, good, nil, nil, own)}, codes.OK},
		"accepts/no-key-id":             {testbed.Ask{Token: f.forge(t, good, map[string]any{"kid": nil}, nil, own)}, codes.OK},
		"accepts/expired-within-leeway": {testbed.Ask{Token: f.forge(t, good, nil, map[string]any{"exp": now - 20}, own)}, codes.OK},
		"accepts/our-cluster":           {testbed.Ask{Token: good, Cluster: "Kubernetes"}, codes.OK},
		"refuses/other-cluster":         {testbed.Ask{Token: good, Cluster: "elsewhere"}, codes.Unauthenticated},
		"refuses/no-token":              {testbed.Ask{}, codes.Unauthenticated},
		"refuses/lower-case-scheme":     {testbed.Ask{Token: good, Scheme: "bearer "}, codes.Unauthenticated},
		"refuses/basic":                 {testbed.Ask{Token: good, Scheme: "Basic "}, codes.Unauthenticated},
		"refuses/not-a-jwt":             {testbed.Ask{Token: "abc"}, codes.Unauthenticated},
		"refuses/wrong-audience":        {testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "vault")}, codes.Unauthenticated},
		"refuses/api-server-audience":   {testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod)}, codes.Unauthenticated},
		"refuses/expired":               {testbed.Ask{Token: f.forge(t, good, nil, map[string]any{"exp": now - 120}, own)}, codes.Unauthenticated},
		"refuses/not-yet-valid":         {testbed.Ask{Token: f.forge(t, good, nil, map[string]any{"nbf": now + 600}, own)}, codes.Unauthenticated},
		"refuses/wrong-issuer":          {testbed.Ask{Token: f.forge(t, good, nil, map[string]any{"iss": "https://elsewhere.example"}, own)}, codes.Unauthenticated},
		"refuses/no-audience":           {testbed.Ask{Token: f.forge(t, good, nil, map[string]any{"aud": nil}, own)}, codes.Unauthenticated},
		"refuses/tampered-claims":       {testbed.Ask{Token: parts[0] + "." + strings.Split(unbound, ".")[1] + "." + parts[2]}, codes.Unauthenticated},
		"refuses/tampered-signature":    {testbed.Ask{Token: f.forge(t, good, nil, nil, func(string) []byte { return make([]byte, 64) })}, codes.Unauthenticated},
		"refuses/other-key":             {testbed.Ask{Token: f.forge(t, good, nil, nil, func(in string) []byte { return signES256(t, other, in) })}, codes.Unauthenticated},
		"refuses/other-key-id":          {testbed.Ask{Token: f.forge(t, good, map[string]any{"kid": "other"}, nil, own)}, codes.Unauthenticated},
		"refuses/alg-none":              {testbed.Ask{Token: f.forge(t, good, map[string]any{"alg": "none"}, nil, func(string) []byte { return nil })}, codes.Unauthenticated},
		"refuses/alg-hs256":             {testbed.Ask{Token: f.forge(t, good, map[string]any{"alg": "HS256"}, nil, hs256)}, codes.Unauthenticated},
		"refuses/alg-rs256":             {testbed.Ask{Token: f.forge(t, good, map[string]any{"alg": "RS256"}, nil, own)}, codes.Unauthenticated},
		"refuses/alg-es384":             {testbed.Ask{Token: f.forge(t, good, map[string]any{"alg": "ES384"}, nil, own)}, codes.Unauthenticated},
		"refuses/alg-of-nobody":         {testbed.Ask{Token: f.forge(t, good, map[string]any{"alg": nil}, nil, own)}, codes.Unauthenticated},
		"refuses/key-in-header": {testbed.Ask{Token: f.forge(t, good, map[string]any{
			"kid": nil, "jwk": jose.JSONWebKey{Key: other.Public(), Algorithm: "ES256", Use: "sig"},
		}, nil, func(in string) []byte { return signES256(t, other, in) })}, codes.Unauthenticated},
		"refuses/unknown-critical": {testbed.Ask{Token: f.forge(t, good, map[string]any{"crit": []string{"x"}, "x": 1}, nil, own)}, codes.Unauthenticated},
		"refuses/unknown-account": {testbed.Ask{Token: f.forge(t, good, nil, map[string]any{
			"sub": "system:serviceaccount:demo:nobody", "kubernetes.io": map[string]any{
				"namespace": "demo", "serviceaccount": map[string]any{"name": "nobody", "uid": string(account.UID)},
			},
		}, own)}, codes.Unauthenticated},
	} {
		for verifier, caller := range f.callers {
			t.Run(name+"/"+verifier, func(t *testing.T) {
				ask := ask
				ask.CSR = spiffeRequest(t, identityOf(account))
				f.create(t, caller, ask.Ask, ask.want)
			})
		}
	}
	t.Run("refuses/deleted-pod", f.testDeletedPod)
	t.Run("refuses/pod-created-again", f.testPodAgain)
	t.Run("refuses/account-created-again", f.testAccountAgain)
}

// create asks once and checks the code, and the sentence that callers get.
func (f *field) create(t *testing.T, caller *testbed.Caller, ask testbed.Ask, want codes.Code) []string {
	t.Helper()
	chain, err := caller.Create(t.Context(), ask)
	if status.Code(err) != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if want == codes.Unauthenticated && status.Convert(err).Message() != "request authenticate failure" {
		t.Errorf("the caller is told %q", status.Convert(err).Message())
	}
	return chain
}

// both asks both agents until each answers with the code: they learn of changes in the cluster a moment later.
func (f *field) both(t *testing.T, ask testbed.Ask, want codes.Code) {
	t.Helper()
	for verifier, caller := range f.callers {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := testbed.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
			_, err := caller.Create(ctx, ask)
			if status.Code(err) != want {
				if err == nil {
					err = errAccepted
				}
				return err
			}
			return nil
		})
		cancel()
		if err != nil {
			t.Errorf("%s: want %s: %v", verifier, want, err)
		}
	}
}

func (f *field) testDeletedPod(t *testing.T) {
	account, pod := f.workload(t, "deleted")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, ask, codes.OK)
	f.cluster.DeletePod(t.Context(), t, "demo", "deleted")
	f.both(t, ask, codes.Unauthenticated)
}

func (f *field) testPodAgain(t *testing.T) {
	account, pod := f.workload(t, "again")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, ask, codes.OK)
	f.cluster.DeletePod(t.Context(), t, "demo", "again")
	newer := f.cluster.CreatePod(t.Context(), t, "demo", "again", "again", "node-1")
	f.both(t, ask, codes.Unauthenticated)
	// The newer Pod's token is good at once, also where the informer has not seen the Pod yet.
	ask.Token = f.cluster.Token(t.Context(), t, account, newer, "istio-ca")
	for verifier, caller := range f.callers {
		if _, err := caller.Create(t.Context(), ask); err != nil {
			t.Errorf("%s: %v", verifier, err)
		}
	}
}

func (f *field) testAccountAgain(t *testing.T) {
	account, pod := f.workload(t, "account")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, ask, codes.OK)
	f.cluster.Kubectl(t.Context(), t, "delete", "serviceaccount", "account", "--namespace", "demo")
	f.both(t, ask, codes.Unauthenticated)
	newer := f.cluster.CreateAccount(t.Context(), t, "demo", "account")
	f.both(t, ask, codes.Unauthenticated)
	ask.Token = f.cluster.Token(t.Context(), t, newer, nil, "istio-ca")
	f.both(t, ask, codes.OK)
}

// testKeyRotated has the API server sign with another key: tokens of that are good at once, those of before as long as the
// API server knows their key.
func (f *field) testKeyRotated(t *testing.T) {
	account, pod := f.workload(t, "rotated")
	before := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, before, codes.OK)
	f.cluster.RotateSigningKey(t.Context(), t)
	after := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	for verifier, caller := range f.callers {
		if _, err := caller.Create(t.Context(), after); err != nil {
			t.Errorf("%s: a token of the new key: %v", verifier, err)
		}
		if _, err := caller.Create(t.Context(), before); err != nil {
			t.Errorf("%s: a token of the key of before: %v", verifier, err)
		}
		f.agents[verifier].RenewToken(t.Context(), t, f.cluster)
	}
	f.cluster.DropSigningKeys(t.Context(), t)
	f.both(t, before, codes.Unauthenticated)
	f.both(t, after, codes.OK)
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSerial(t *testing.T) *big.Int {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return serial
}
