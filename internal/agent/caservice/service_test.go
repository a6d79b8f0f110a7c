package caservice_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// check compares a status with what mesh callers expect: the code decides whether Istio's agent tries again, and the
// sentence says nothing.
func check(t *testing.T, err error, code codes.Code, sentence string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || got.Message() != sentence {
		t.Errorf("got %s %q, want %s %q", got.Code(), got.Message(), code, sentence)
	}
}

const (
	notAuthenticated = "request authenticate failure"
	notSigned        = "failed to sign certificate request"
	notVerified      = "failed to parse and verify signed certificate from issuer"
)

func TestCallers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ask  ask
		code codes.Code
	}{
		"accepts/token":               {ask{token: "web"}, codes.OK},
		"accepts/cluster":             {ask{token: "web", cluster: "Kubernetes"}, codes.OK},
		"accepts/alias":               {ask{token: "web", cluster: "alias"}, codes.OK},
		"accepts/two-clusters":        {ask{token: "web", cluster: "a,b"}, codes.OK}, // as istiod does
		"refuses/other-cluster":       {ask{token: "web", cluster: "other"}, codes.Unauthenticated},
		"refuses/no-token":            {ask{}, codes.Unauthenticated},
		"refuses/forged":              {ask{token: "x"}, codes.Unauthenticated},
		"refuses/expired":             {ask{token: "web-expired"}, codes.Unauthenticated},
		"refuses/lower-case-scheme":   {ask{header: "bearer web"}, codes.Unauthenticated},
		"refuses/other-scheme":        {ask{header: "Basic web"}, codes.Unauthenticated},
		"comes-again/api-server-down": {ask{token: "api-down"}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.ask.csr = spiffe(t, web)
			_, err := newLab(t).call(t, c.ask)
			if c.code == codes.OK {
				if err != nil {
					t.Error(err)
				}
				return
			}
			check(t, err, c.code, notAuthenticated)
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	encode := pemOf
	good := encode(spiffe(t, web))
	with := func(extensions ...pkix.Extension) string {
		uri, err := url.Parse(web)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}, ExtraExtensions: extensions}, testca.Key(t))
		if err != nil {
			t.Fatal(err)
		}
		return encode(der)
	}
	usage := func(value ...byte) pkix.Extension { return pkix.Extension{Id: []int{2, 5, 29, 15}, Value: value} }
	extended := func(value ...byte) pkix.Extension { return pkix.Extension{Id: []int{2, 5, 29, 37}, Value: value} }
	purpose := func(last byte) []byte { return []byte{0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, last} }
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"accepts/plain":               {good, true},
		"accepts/newlines-after":      {good + "\n\n", true},
		"accepts/key-usage":           {with(usage(3, 2, 5, 0xa0)), true},
		"accepts/signature-only":      {with(usage(3, 2, 7, 0x80)), true},
		"accepts/both-purposes":       {with(extended(append(append([]byte{0x30, 20}, purpose(1)...), purpose(2)...)...)), true},
		"refuses/empty":               {"", false},
		"refuses/not-pem":             {"abc", false},
		"refuses/other-type":          {strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), false},
		"refuses/two":                 {good + good, false},
		"refuses/text-after":          {good + "x", false},
		"refuses/large":               {good + strings.Repeat("\n", 70<<10), false},
		"refuses/cut":                 {good[:len(good)/2], false},
		"refuses/no-name":             {encode(spiffe(t)), false},
		"refuses/other-name":          {encode(spiffe(t, web+"2")), false},
		"refuses/two-names":           {encode(spiffe(t, web, web+"2")), false},
		"refuses/dns":                 {encode(testca.CSR(t, testca.Request{URIs: []string{web}, DNS: []string{"a.svc"}})), false},
		"refuses/ip":                  {encode(testca.CSR(t, testca.Request{URIs: []string{web}, IPs: []string{"10.0.0.1"}})), false},
		"refuses/common-name":         {encode(testca.CSR(t, testca.Request{URIs: []string{web}, CommonName: "web"})), false},
		"refuses/ca":                  {encode(testca.CSR(t, testca.Request{URIs: []string{web}, CA: true})), false},
		"refuses/cert-sign":           {with(usage(3, 2, 2, 0xa4)), false},
		"refuses/nine-bits":           {with(usage(3, 3, 7, 0xa0, 0x80)), false},
		"refuses/code-signing":        {with(extended(append([]byte{0x30, 10}, purpose(3)...)...)), false},
		"refuses/no-purpose":          {with(extended(0x30, 0)), false},
		"refuses/purposes-unreadable": {with(extended(0x30, 9, 1)), false},
		"refuses/must-staple":         {with(pkix.Extension{Id: []int{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.call(t, ask{token: "web", text: c.text})
			if c.want {
				if err != nil {
					t.Error(err)
				}
				return
			}
			check(t, err, codes.Unauthenticated, notAuthenticated)
		})
	}
}

func TestImpersonation(t *testing.T) {
	t.Parallel()
	const db = "spiffe://cluster.local/ns/demo/sa/db"
	for name, c := range map[string]struct {
		ask    ask
		names  string // in the CSR
		change func(*lab)
		code   codes.Code
	}{
		"accepts/same-node":       {ask: ask{token: "ztunnel", impersonate: web}, names: web, code: codes.OK},
		"refuses/other-node":      {ask: ask{token: "ztunnel", impersonate: db}, names: db, code: codes.Unauthenticated},
		"refuses/finished":        {ask: ask{token: "ztunnel", impersonate: "spiffe://cluster.local/ns/demo/sa/job"}, names: "spiffe://cluster.local/ns/demo/sa/job", code: codes.Unauthenticated},
		"refuses/not-trusted":     {ask: ask{token: "web", impersonate: web}, names: web, code: codes.Unauthenticated},
		"refuses/foreign-domain":  {ask: ask{token: "ztunnel", impersonate: "spiffe://other/ns/demo/sa/web"}, names: "spiffe://other/ns/demo/sa/web", code: codes.Unauthenticated},
		"refuses/no-identity":     {ask: ask{token: "ztunnel", impersonate: "web"}, names: web, code: codes.Unauthenticated},
		"refuses/other-csr":       {ask: ask{token: "ztunnel", impersonate: web}, names: db, code: codes.Unauthenticated},
		"refuses/unbound-token":   {ask: ask{token: "ztunnel-unbound", impersonate: web}, names: web, code: codes.Unauthenticated},
		"refuses/pod-of-before":   {ask: ask{token: "ztunnel-of-before", impersonate: web}, names: web, code: codes.Unauthenticated},
		"refuses/proxy-is-gone":   {ask: ask{token: "ztunnel", impersonate: web}, names: web, change: func(l *lab) { l.near.pods = l.near.pods[1:] }, code: codes.Unauthenticated},
		"refuses/proxy-other-sa":  {ask: ask{token: "ztunnel", impersonate: web}, names: web, change: func(l *lab) { l.near.pods[0].ServiceAccount = "x" }, code: codes.Unauthenticated},
		"refuses/proxy-finished":  {ask: ask{token: "ztunnel", impersonate: web}, names: web, change: func(l *lab) { l.near.pods[0].Finished = true }, code: codes.Unauthenticated},
		"comes-again/no-node-yet": {ask: ask{token: "ztunnel", impersonate: web}, names: web, change: func(l *lab) { l.near.pods[0].Node = "" }, code: codes.Unavailable},
		"comes-again/api-down":    {ask: ask{token: "ztunnel", impersonate: web}, names: web, change: func(l *lab) { l.near.podsErr = fault.New(fault.Unavailable, "x") }, code: codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if c.change != nil {
				c.change(l)
			}
			c.ask.csr = spiffe(t, c.names)
			_, err := l.call(t, c.ask)
			if c.code != codes.OK {
				check(t, err, c.code, notAuthenticated)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := issuer.Caller{
				Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "uid-web-0", Node: "node-1",
				ImpersonatedBy: "istio-system/ztunnel/ztunnel-0",
			}
			if l.asked[0].Caller != want {
				t.Errorf("the CA is told %+v", l.asked[0].Caller)
			}
		})
	}
}

func TestImpersonationIsOffByDefault(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *caservice.Config) { c.NodeAccounts = nil })
	_, err := l.call(t, ask{token: "ztunnel", impersonate: web, csr: spiffe(t, web)})
	check(t, err, codes.Unauthenticated, notAuthenticated)
}

// What the CA says becomes a code that Istio retries only where a retry can help.
func TestIssuerFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code codes.Code
	}{
		"gone":       {fault.New(fault.Unavailable, "x"), codes.Unavailable},
		"overloaded": {fault.New(fault.RateLimited, "x"), codes.ResourceExhausted},
		"policy":     {fault.New(fault.Unauthorized, "x"), codes.PermissionDenied},
		"name":       {fault.New(fault.RejectedIdentifier, "x"), codes.PermissionDenied},
		"bug":        {errBroken, codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.issueErr = c.err
			_, err := l.call(t, ask{token: "web", csr: spiffe(t, web)})
			check(t, err, c.code, notSigned)
		})
	}
	t.Run("no-bundle", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.bundle = nil
		_, err := l.call(t, ask{token: "web", csr: spiffe(t, web)})
		check(t, err, codes.Unavailable, notSigned)
	})
}

// verifying is a lab whose CA verifies CSRs, as a Certloom server does.
type verifying struct{ *lab }

func (verifying) VerifiesCSRs() bool { return true }

func (v verifying) Issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	if _, err := csr.Parse(r.CSR); err != nil {
		return nil, fault.Wrap(err, fault.Unauthorized, "the server's profile does not allow it")
	}
	return v.lab.Issue(ctx, r)
}

// Whoever verifies a CSR's signature, callers are told the same.
func TestSignature(t *testing.T) {
	t.Parallel()
	forged := spiffe(t, web)
	forged[len(forged)-1] ^= 1
	for name, upstream := range map[string]bool{"here": false, "by-the-issuer": true} {
		t.Run("refuses/forged-"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, func(c *caservice.Config) {
				if upstream {
					c.Issuer = verifying{c.Issuer.(*lab)}
				}
			})
			_, err := l.call(t, ask{token: "web", csr: forged})
			check(t, err, codes.Unauthenticated, notAuthenticated)
			if len(l.asked) > 0 {
				t.Error("a CA that verifies nothing was asked")
			}
			if len(l.near.told) != 1 || !strings.Contains(l.near.told[0], "signature") {
				t.Errorf("the Pod is told %q", l.near.told)
			}
			if _, err := l.call(t, ask{token: "web", csr: spiffe(t, web)}); err != nil {
				t.Error(err)
			}
			l.issueErr = fault.New(fault.Unauthorized, "x")
			_, err = l.call(t, ask{token: "web", csr: spiffe(t, web)})
			check(t, err, codes.PermissionDenied, notSigned)
		})
	}
}

// A certificate that is not what was asked for is not handed out.
func TestIssuedIsChecked(t *testing.T) {
	t.Parallel()
	other := testca.New(t)
	parse := func(text string) *url.URL {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return uri
	}
	for name, change := range map[string]func(*lab){
		"other-name": func(l *lab) { l.change = func(c *x509.Certificate) { c.URIs = []*url.URL{parse(web + "2")} } },
		"more-names": func(l *lab) { l.change = func(c *x509.Certificate) { c.DNSNames = []string{"a.svc"} } },
		"e-mail":     func(l *lab) { l.change = func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.example"} } },
		"expired":    func(l *lab) { l.change = func(c *x509.Certificate) { c.NotAfter = testca.Now().Add(-time.Second) } },
		"ca":         func(l *lab) { l.change = func(c *x509.Certificate) { c.IsCA = true } },
		"no-client":  func(l *lab) { l.change = func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] } },
		"no-server":  func(l *lab) { l.change = func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] } },
		"other-root": func(l *lab) { l.Hierarchy = other },
		"no-chain":   func(l *lab) { l.replace = func(c [][]byte) [][]byte { return c[:1] } },
		"nothing":    func(l *lab) { l.replace = func([][]byte) [][]byte { return nil } },
		"garbage":    func(l *lab) { l.replace = func([][]byte) [][]byte { return [][]byte{{1, 2, 3}} } },
		"other-key": func(l *lab) {
			l.replace = func(c [][]byte) [][]byte {
				template := &x509.Certificate{
					SerialNumber: l.IssuingCert.SerialNumber, URIs: []*url.URL{parse(web)}, NotAfter: testca.Now().Add(time.Hour),
				}
				return [][]byte{l.Leaf(t, template, testca.Key(t).Public()).Raw, c[1]}
			}
		},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			// The first certificate is good, so that what is known of the CA's path does not let the second one pass.
			if _, err := l.call(t, ask{token: "web", csr: spiffe(t, web)}); err != nil {
				t.Fatal(err)
			}
			change(l)
			_, err := l.call(t, ask{token: "web", csr: spiffe(t, web)})
			check(t, err, codes.Internal, notVerified)
		})
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	l, second := newLab(t), testca.New(t)
	var err error
	if l.bundle, err = issuer.NewBundle([][]byte{l.RootCert.Raw, second.RootCert.Raw}); err != nil {
		t.Fatal(err)
	}
	chain, err := l.call(t, ask{token: "web", csr: spiffe(t, web)})
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, element := range chain {
		if !strings.HasSuffix(element, "-----END CERTIFICATE-----\n") {
			t.Errorf("element ends with %q", element[len(element)-20:])
		}
		sizes = append(sizes, strings.Count(element, "BEGIN CERTIFICATE"))
	}
	if len(sizes) != 3 || sizes[0] != 1 || sizes[1] != 1 || sizes[2] != 2 {
		t.Errorf("elements have %v certificates, want leaf, issuing CA, both roots", sizes)
	}
	if chain[2] != l.bundle.PEM {
		t.Error("the last element is not the bundle")
	}
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seconds int64
		jitter  float64
		want    time.Duration
	}{
		"none":      {0, 0, time.Hour},
		"negative":  {-5, 0, time.Hour},
		"most":      {1 << 62, 0, time.Hour},
		"a-day":     {86400, 0, time.Hour},
		"shorter":   {600, 0, 10 * time.Minute},
		"jittered":  {86400, 0.5, 57 * time.Minute},
		"very-low":  {1, 0.999, time.Second},
		"most-lost": {3600, 0.9999999, 54 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, func(config *caservice.Config) { config.Jitter = func() float64 { return c.jitter } })
			if _, err := l.call(t, ask{token: "web", csr: spiffe(t, web), seconds: c.seconds}); err != nil {
				t.Fatal(err)
			}
			if got := l.asked[0].Lifetime; got != c.want {
				t.Errorf("%s is asked for, want %s", got, c.want)
			}
		})
	}
}

// The Pod is told what the caller is not.
func TestTell(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, a := range []ask{{token: "web", cluster: "other"}, {token: "web-expired"}, {token: "forged"}, {token: "api-down"}} {
		a.csr = spiffe(t, web)
		if _, err := l.call(t, a); err == nil {
			t.Fatal("accepted")
		}
	}
	if len(l.near.told) != 2 || !strings.Contains(l.near.told[0], `demo/web-0`) || !strings.Contains(l.near.told[0], `"other"`) ||
		!strings.Contains(l.near.told[0], `"Kubernetes"`) || !strings.Contains(l.near.told[1], "expired") {
		t.Errorf("told %q", l.near.told)
	}
}

// A CA that hangs does not hang the workload, whose call has no deadline.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.hang = true
		began := time.Now()
		_, err := l.call(t, ask{token: "web", csr: spiffe(t, web)})
		check(t, err, codes.Unavailable, notSigned)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %s", took)
		}
		if l.service.Oldest() != 0 {
			t.Error("the call is still counted")
		}
	})
}

// Neither readable nor refused for a wrong reason: whatever the CSR is, only one for the caller's identity passes.
func FuzzRequest(f *testing.F) {
	l := newLab(f)
	f.Add(pemOf(spiffe(f, web)))
	f.Add(pemOf(spiffe(f, web, web+"2")))
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		chain, err := l.call(t, ask{token: "web", text: text})
		if err != nil {
			check(t, err, codes.Unauthenticated, notAuthenticated)
			return
		}
		block, _ := pem.Decode([]byte(chain[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || len(leaf.URIs) != 1 || leaf.URIs[0].String() != web || len(leaf.DNSNames)+len(leaf.IPAddresses) > 0 {
			t.Errorf("%q got a certificate for %v", text, leaf.URIs)
		}
	})
}
