package acme_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

const workload = "spiffe://cluster.local/ns/demo/sa/web"

// download reads a chain and checks its form: leaf first, each one certified by the next, no root, nothing else.
func download(t *testing.T, c *acmetest.Client, at string) []*x509.Certificate {
	t.Helper()
	answer := c.Read(t, at)
	if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/pem-certificate-chain" {
		t.Fatalf("download: %d %s", answer.Status, answer.Body)
	}
	var chain []*x509.Certificate
	rest := answer.Body
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("chain has text that is not PEM: %q", rest)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	intermediates := x509.NewCertPool()
	for _, above := range chain[1:] {
		intermediates.AddCert(above)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: c.Server.Roots(t), Intermediates: intermediates, CurrentTime: c.Server.Clock.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		t.Errorf("chain does not verify: %v", err)
	}
	return chain
}

// The three shapes of CSR that cert-manager brings from a mesh.
func TestMeshShapes(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "istio")
	id, err := url.Parse("spiffe://cluster.local/ns/istio-system/sa/istiod")
	if err != nil {
		t.Fatal(err)
	}
	emptyOrganization, err := asn1.Marshal(pkix.Name{Organization: []string{""}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	serving := []string{"cert-manager-istio-csr.cert-manager.svc", "istiod.istio-system.svc"}
	tests := map[string]struct {
		csr  []byte
		dns  []string
		uris []string
	}{
		"workload":  {acmetest.WorkloadCSR(t, workload), nil, []string{workload}},
		"istio-csr": {acmetest.CSR(t, &x509.CertificateRequest{RawSubject: emptyOrganization, DNSNames: serving}), serving, nil},
		"istiod": {acmetest.CSR(t, &x509.CertificateRequest{
			Subject:  pkix.Name{CommonName: "istiod.istio-system.svc"},
			DNSNames: []string{"istiod.istio-system.svc"}, URIs: []*url.URL{id},
		}), []string{"istiod.istio-system.svc"}, []string{id.String()}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.NewOrder(t, tt.dns...)
			if o.Status != "ready" || o.Profile != "istio" || len(o.Authorizations) != len(tt.dns) || len(o.URL) > 1000 {
				t.Fatalf("new order: %+v", o)
			}
			checkAuthorizations(t, c, o)
			answer := c.Finalize(t, o, tt.csr)
			done := answer.Order(t)
			if answer.Status != http.StatusOK || done.Status != "valid" || done.URL != o.URL || done.Certificate == "" {
				t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
			}
			chain := download(t, c, done.Certificate)
			var uris []string
			for _, u := range chain[0].URIs {
				uris = append(uris, u.String())
			}
			if !slices.Equal(chain[0].DNSNames, tt.dns) || !slices.Equal(uris, tt.uris) || len(chain) != 2 {
				t.Errorf("certificate for %v and %v, %d in the chain", chain[0].DNSNames, uris, len(chain))
			}
			if again := c.Read(t, o.URL).Order(t); again.Status != "valid" || again.Certificate != done.Certificate {
				t.Errorf("order after finalize: %+v", again)
			}
		})
	}
}

// checkAuthorizations checks that a pre-authorized order has a valid authorization with a valid challenge for each name.
func checkAuthorizations(t *testing.T, c *acmetest.Client, o *acmetest.Order) {
	t.Helper()
	for i, at := range o.Authorizations {
		var authz struct {
			Status     string
			Identifier struct{ Type, Value string }
			Challenges []struct{ Type, Status, Token, Validated, URL string }
		}
		c.Read(t, at).Into(t, &authz)
		if authz.Status != "valid" || authz.Identifier != o.Identifiers[i] || len(authz.Challenges) != 1 || authz.Challenges[0].Status != "valid" ||
			authz.Challenges[0].Validated == "" || len(authz.Challenges[0].Token) < 22 {
			t.Errorf("authorization %d: %+v", i, authz)
			continue
		}
		if answer := c.Post(t, authz.Challenges[0].URL, struct{}{}); answer.Status != http.StatusOK {
			t.Errorf("challenge of a valid authorization: %d %s", answer.Status, answer.Body)
		}
	}
}

// One order has one certificate, whichever replica is asked and however often.
func TestParallelFinalize(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "istio")
	other := *c
	other.Handler = s.Replica(t, acme.Options{}).Handler()
	clients := []*acmetest.Client{c, &other}
	for name, same := range map[string]bool{"same CSR": true, "different CSRs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.NewOrder(t)
			csr := acmetest.WorkloadCSR(t, workload)
			const n = 24
			answers := make([]*acmetest.Response, n)
			var all sync.WaitGroup
			for i := range n {
				mine := csr
				if !same {
					mine = acmetest.WorkloadCSR(t, workload)
				}
				all.Go(func() { answers[i] = clients[i%2].Finalize(t, o, mine) })
			}
			all.Wait()
			certificates := make(map[string]int)
			refused := 0
			for _, answer := range answers {
				if answer.Status == http.StatusOK {
					certificates[answer.Order(t).Certificate]++
				} else if p := answer.Problem(t); answer.Status == http.StatusForbidden && p.Type == "orderNotReady" {
					refused++
				} else {
					t.Errorf("finalize: %d %s", answer.Status, answer.Body)
				}
			}
			want := 0
			if !same {
				want = n - 1
			}
			if len(certificates) != 1 || refused != want {
				t.Errorf("certificates %v, %d refused; want one certificate and %d", certificates, refused, want)
			}
		})
	}
}

// What is refused at finalize leaves the order as it was.
func TestRefusedFinalize(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "istio")
	tests := map[string]struct {
		dns    []string
		csr    []byte
		status int
		kind   string
	}{
		"refuses/other trust domain": {nil, acmetest.WorkloadCSR(t, "spiffe://evil.example/ns/demo/sa/web"), 403, "rejectedIdentifier"},
		"refuses/dot dot":            {nil, acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/.."), 400, "badCSR"},
		"refuses/no SPIFFE ID":       {nil, acmetest.ServerCSR(t, "a.demo.svc"), 400, "badCSR"},
		"refuses/missing name":       {[]string{"a.demo.svc", "b.demo.svc"}, acmetest.ServerCSR(t, "a.demo.svc"), 400, "badCSR"},
		"refuses/additional name":    {[]string{"a.demo.svc"}, acmetest.ServerCSR(t, "a.demo.svc", "b.demo.svc"), 400, "badCSR"},
		"refuses/no CSR":             {nil, []byte("hello"), 400, "badCSR"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.NewOrder(t, tt.dns...)
			answer := c.Finalize(t, o, tt.csr)
			if p := answer.Problem(t); answer.Status != tt.status || p.Type != tt.kind || p.Status != tt.status {
				t.Errorf("finalize: %d %s", answer.Status, answer.Body)
			}
			if again := c.Read(t, o.URL).Order(t); again.Status != "ready" {
				t.Errorf("order is %s after a refusal, want ready", again.Status)
			}
			events, err := s.Store.Events(t.Context(), pki.EventFilter{Action: string(audit.CertificateRefuse), Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(events, func(e audit.Event) bool {
				return e.Outcome == audit.Refused && e.Detail.Account != "" && e.Detail.Reason != ""
			}) {
				t.Errorf("refusal is not in the audit log: %+v", events)
			}
		})
	}
}

func TestFinalizeSwitches(t *testing.T) {
	t.Parallel()
	csr := acmetest.WorkloadCSR(t, workload)
	padded := acmetest.Base64(csr) + "="
	tests := map[string]struct {
		options     acme.Options
		again       int
		paddedFirst int
	}{
		"default": {acme.Options{}, http.StatusOK, http.StatusBadRequest},
		"strict":  {acme.Options{StrictFinalize: true}, http.StatusForbidden, http.StatusBadRequest},
		"lenient": {acme.Options{LenientCSRPadding: true}, http.StatusOK, http.StatusOK},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := acmetest.Start(t, acmetest.Options{ACME: tt.options}).Register(t, "istio")
			if answer := c.Post(t, c.NewOrder(t).Finalize, map[string]string{"csr": padded}); answer.Status != tt.paddedFirst {
				t.Errorf("padded CSR: %d %s, want %d", answer.Status, answer.Body, tt.paddedFirst)
			}
			o := c.NewOrder(t)
			if answer := c.Finalize(t, o, csr); answer.Status != http.StatusOK {
				t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
			}
			if answer := c.Finalize(t, o, csr); answer.Status != tt.again {
				t.Errorf("finalize again: %d %s, want %d", answer.Status, answer.Body, tt.again)
			}
		})
	}
}

// An order that is too large for a URL gets a row, and behaves the same.
func TestLargeOrder(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "server")
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("service-%02d.a-namespace.svc", i))
	}
	o := c.NewOrder(t, names...)
	if o.Status != "ready" || len(o.Authorizations) != len(names) || len(o.URL) > 200 {
		t.Fatalf("new order: %+v", o)
	}
	checkAuthorizations(t, c, o)
	answer := c.Finalize(t, o, acmetest.ServerCSR(t, names...))
	if answer.Status != http.StatusOK {
		t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
	}
	if chain := download(t, c, answer.Order(t).Certificate); !slices.Equal(chain[0].DNSNames, names) {
		t.Errorf("certificate for %v", chain[0].DNSNames)
	}
	dropped := c.NewOrder(t, names...)
	if answer := c.Post(t, dropped.Authorizations[3], map[string]string{"status": "deactivated"}); answer.Status != http.StatusOK {
		t.Fatalf("deactivate: %d %s", answer.Status, answer.Body)
	}
	if answer := c.Finalize(t, dropped, acmetest.ServerCSR(t, names...)); answer.Status != http.StatusForbidden {
		t.Errorf("finalize after deactivation: %d %s", answer.Status, answer.Body)
	}
}

// Deactivating an authorization ends its own order and no other.
func TestDeactivateSealed(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "server")
	o, other := c.NewOrder(t, "a.example.com", "b.example.com"), c.NewOrder(t, "a.example.com", "b.example.com")
	answer := c.Post(t, o.Authorizations[1], map[string]string{"status": "deactivated"})
	var authz struct{ Status string }
	answer.Into(t, &authz)
	if answer.Status != http.StatusOK || authz.Status != "deactivated" {
		t.Fatalf("deactivate: %d %s", answer.Status, answer.Body)
	}
	if got := c.Read(t, o.URL).Order(t).Status; got != "invalid" {
		t.Errorf("order with a deactivated authorization is %s, want invalid", got)
	}
	csr := acmetest.ServerCSR(t, "a.example.com", "b.example.com")
	if answer := c.Finalize(t, o, csr); answer.Status != http.StatusForbidden {
		t.Errorf("finalize: %d %s", answer.Status, answer.Body)
	}
	if answer := c.Finalize(t, other, csr); answer.Status != http.StatusOK {
		t.Errorf("finalize of the other order: %d %s", answer.Status, answer.Body)
	}
}

// The orders list names finalized orders that have no row by their identifiers; what is read there is the same order.
func TestOrdersList(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "server")
	o := c.NewOrder(t, "a.example.com")
	done := c.Finalize(t, o, acmetest.ServerCSR(t, "a.example.com")).Order(t)
	var list struct{ Orders []string }
	c.Read(t, c.KID+"/orders").Into(t, &list)
	if len(list.Orders) != 1 {
		t.Fatalf("orders list: %+v", list)
	}
	listed := c.Read(t, list.Orders[0]).Order(t)
	if listed.Status != "valid" || listed.Certificate != done.Certificate || len(listed.Authorizations) != 1 ||
		cmp.Diff(listed.Identifiers, o.Identifiers) != "" {
		t.Errorf("listed order: %+v", listed)
	}
	checkAuthorizations(t, c, listed)
	if answer := s.Register(t, "server").Read(t, list.Orders[0]); answer.Status != http.StatusNotFound {
		t.Errorf("order of another account: %d %s", answer.Status, answer.Body)
	}
}

// Revoking the credential stops what was begun with it.
func TestRevokedCredential(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	credential := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["istio"].ID, Name: "cluster-b"})
	c := s.NewClient(t)
	c.Register(t, credential)
	o := c.NewOrder(t)
	if _, err := s.Catalog.RevokeCredential(t.Context(), credential.ID, acmetest.By()); err != nil {
		t.Fatal(err)
	}
	if answer := c.Finalize(t, o, acmetest.WorkloadCSR(t, workload)); answer.Status != http.StatusForbidden || answer.Problem(t).Type != "unauthorized" {
		t.Errorf("finalize: %d %s", answer.Status, answer.Body)
	}
	if answer := c.Post(t, c.Prefix+"/new-order", struct{}{}); answer.Status != http.StatusForbidden || answer.Problem(t).Type != "unauthorized" {
		t.Errorf("newOrder: %d %s", answer.Status, answer.Body)
	}
}

func TestExpiredOrder(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{ACME: acme.Options{OrderLifetime: time.Hour}})
	c := s.Register(t, "istio")
	csr := acmetest.WorkloadCSR(t, workload)
	finished, left := c.NewOrder(t), c.NewOrder(t)
	if answer := c.Finalize(t, finished, csr); answer.Status != http.StatusOK {
		t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
	}
	s.Advance(t, 2*time.Hour)
	if got := c.Read(t, left.URL).Order(t).Status; got != "invalid" {
		t.Errorf("expired order is %s, want invalid", got)
	}
	if answer := c.Finalize(t, left, csr); answer.Status != http.StatusForbidden || answer.Problem(t).Type != "orderNotReady" {
		t.Errorf("finalize of an expired order: %d %s", answer.Status, answer.Body)
	}
	// The certificate outlives the order, and so does the answer that a client may have lost.
	if answer := c.Finalize(t, finished, csr); answer.Status != http.StatusOK {
		t.Errorf("finalize of a valid order after its expiry: %d %s", answer.Status, answer.Body)
	}
}
