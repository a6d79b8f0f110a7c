package caservice_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

const host = "certloom-agent.istio-system.svc"

// serve runs the service until the test ends, and returns how to reach it and how it ended.
func (l *lab) serve(t *testing.T) (*bufconn.Listener, func() error) {
	t.Helper()
	key := testca.Key(t)
	leaf := l.Leaf(t, &x509.Certificate{
		SerialNumber: l.RootCert.SerialNumber, DNSNames: []string{host}, NotBefore: testca.Now().Add(-time.Hour), NotAfter: testca.Now().Add(time.Hour),
	}, key.Public())
	own := &tls.Certificate{Certificate: [][]byte{leaf.Raw, l.IssuingCert.Raw}, PrivateKey: key}
	listener := bufconn.Listen(64 << 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	secure := l.service.TLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own, nil })
	go func() { done <- l.service.Serve(ctx, listener, secure) }()
	stop := func() error {
		cancel()
		return <-done
	}
	t.Cleanup(cancel)
	return listener, stop
}

func (l *lab) dial(t *testing.T, listener *bufconn.Listener, change func(*tls.Config)) *grpc.ClientConn {
	t.Helper()
	secure := &tls.Config{RootCAs: l.Pool(), ServerName: host, Time: testca.Now, MinVersion: tls.VersionTLS10}
	if change != nil {
		change(secure)
	}
	connection, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func (l *lab) create(t *testing.T, connection *grpc.ClientConn, raw, text string) error {
	t.Helper()
	ctx := t.Context()
	if raw != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+raw)
	}
	_, err := istio.NewIstioCertificateServiceClient(connection).CreateCertificate(ctx, &istio.IstioCertificateRequest{Csr: text})
	return err
}

func TestListener(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	listener, stop := l.serve(t)
	good := pemOf(spiffe(t, web))
	connection := l.dial(t, listener, nil)
	if err := l.create(t, connection, "web", good); err != nil {
		t.Errorf("a good call: %v", err)
	}
	check(t, l.create(t, connection, "panic", good), codes.Internal, notSigned)
	if err := l.create(t, connection, "web", strings.Repeat("x", 2<<20)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("two megabytes: %v", err)
	}
	if err := connection.Invoke(t.Context(), "/grpc.health.v1.Health/Check", &istio.IstioCertificateRequest{}, &istio.IstioCertificateResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("another service: %v", err)
	}
	old := l.dial(t, listener, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 })
	if err := l.create(t, old, "web", good); status.Code(err) != codes.Unavailable {
		t.Errorf("TLS 1.1: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
	if err := l.create(t, connection, "web", good); status.Code(err) != codes.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}

// Callers with a certificate of the mesh need no token, those with a foreign one do.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *caservice.Config) { c.ClientCertificates = true })
	listener, _ := l.serve(t)
	strangers := testca.New(t)
	text := pemOf(spiffe(t, web))
	for name, c := range map[string]struct {
		from  *testca.Hierarchy
		names []string
		usage x509.ExtKeyUsage
		age   time.Duration
		token string
		want  codes.Code
	}{
		"accepts/mesh":               {from: l.Hierarchy, names: []string{web}, want: codes.OK},
		"accepts/foreign-with-token": {from: strangers, names: []string{web}, token: "web", want: codes.OK},
		"accepts/expired-token":      {from: l.Hierarchy, names: []string{web}, token: "web-expired", want: codes.OK},
		"accepts/api-down":           {from: l.Hierarchy, names: []string{web}, token: "api-down", want: codes.OK},
		"accepts/token-of-another":   {from: l.Hierarchy, names: []string{web + "2"}, token: "web", want: codes.OK}, // the token counts
		"refuses/both":               {from: strangers, names: []string{web}, token: "web-expired", want: codes.Unauthenticated},
		"comes-again/api-down":       {from: strangers, names: []string{web}, token: "api-down", want: codes.Unavailable},
		"refuses/foreign":            {from: strangers, names: []string{web}, want: codes.Unauthenticated},
		"refuses/two-names":          {from: l.Hierarchy, names: []string{web, web + "2"}, want: codes.Unauthenticated},
		"refuses/no-name":            {from: l.Hierarchy, want: codes.Unauthenticated},
		"refuses/other-domain":       {from: l.Hierarchy, names: []string{"spiffe://other/ns/demo/sa/web"}, want: codes.Unauthenticated},
		"refuses/other-workload":     {from: l.Hierarchy, names: []string{web + "2"}, want: codes.Unauthenticated},
		"refuses/not-spiffe":         {from: l.Hierarchy, names: []string{"https://example.com/"}, want: codes.Unauthenticated},
		"refuses/server-only":        {from: l.Hierarchy, names: []string{web}, usage: x509.ExtKeyUsageServerAuth, want: codes.Unauthenticated},
		"refuses/expired":            {from: l.Hierarchy, names: []string{web}, age: 2 * time.Hour, want: codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.usage == 0 {
				c.usage = x509.ExtKeyUsageClientAuth
			}
			connection, _ := l.dialWith(t, listener, c.from, c.names, c.usage, c.age)
			if err := l.create(t, connection, c.token, text); status.Code(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// dialWith connects with a client certificate, an hour old and good for another one, less age.
func (l *lab) dialWith(t *testing.T, listener *bufconn.Listener, from *testca.Hierarchy, names []string, usage x509.ExtKeyUsage, age time.Duration) (*grpc.ClientConn, *x509.Certificate) {
	t.Helper()
	key := testca.Key(t)
	parsed, err := x509.ParseCertificateRequest(spiffe(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	leaf := from.Leaf(t, &x509.Certificate{
		SerialNumber: big.NewInt(4711), URIs: parsed.URIs, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: testca.Now().Add(-age - time.Hour), NotAfter: testca.Now().Add(time.Hour - age),
	}, key.Public())
	return l.dial(t, listener, func(config *tls.Config) {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw, from.IssuingCert.Raw}, PrivateKey: key}}
	}), leaf
}

// The CA is told by which certificate the caller is known, and that it says so decides; a caller with a token is known by
// that alone.
func TestCertificateIsJudgedByTheCA(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *caservice.Config) { c.ClientCertificates = true })
	listener, _ := l.serve(t)
	text := pemOf(spiffe(t, web))
	connection, leaf := l.dialWith(t, listener, l.Hierarchy, []string{web}, x509.ExtKeyUsageClientAuth, 0)
	for _, raw := range []string{"", "web-expired", "web"} {
		if err := l.create(t, connection, raw, text); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range []issuer.Caller{
		{Namespace: "demo", ServiceAccount: "web", Certificate: leaf},
		{Namespace: "demo", ServiceAccount: "web", Certificate: leaf}, // nothing of the token that expired
		{Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "uid-web-0", Node: "node-1"},
	} {
		got := l.asked[n].Caller
		if got.Certificate != nil && got.Certificate.Equal(want.Certificate) {
			got.Certificate = want.Certificate
		}
		if got != want {
			t.Errorf("call %d: the CA is told %+v, want %+v", n, got, want)
		}
	}
	for name, c := range map[string]struct {
		err      error
		raw      string
		code     codes.Code
		sentence string
	}{
		"refuses/revoked":         {fault.New(fault.Unauthenticated, "revoked"), "", codes.Unauthenticated, notAuthenticated},
		"refuses/revoked-expired": {fault.New(fault.Unauthenticated, "revoked"), "web-expired", codes.Unauthenticated, notAuthenticated},
		"comes-again/later":       {fault.New(fault.Unavailable, "database is busy"), "", codes.Unavailable, notSigned},
		"refuses/policy":          {fault.New(fault.Unauthorized, "no"), "", codes.PermissionDenied, notSigned},
	} {
		l.issueErr = c.err
		t.Run(name, func(t *testing.T) { check(t, l.create(t, connection, c.raw, text), c.code, c.sentence) })
	}
}

// A certificate says nothing of a node, so nobody is impersonated with one, also not with a node proxy's token that has
// expired.
func TestCertificatesDoNotImpersonate(t *testing.T) {
	t.Parallel()
	const proxy = "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
	l := newLab(t, func(c *caservice.Config) { c.ClientCertificates = true })
	listener, _ := l.serve(t)
	connection, _ := l.dialWith(t, listener, l.Hierarchy, []string{proxy}, x509.ExtKeyUsageClientAuth, 0)
	wanted, err := structpb.NewStruct(map[string]any{"ImpersonatedIdentity": web})
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"", "ztunnel-expired"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+raw)
		_, err := istio.NewIstioCertificateServiceClient(connection).CreateCertificate(ctx,
			&istio.IstioCertificateRequest{Csr: pemOf(spiffe(t, web)), Metadata: wanted})
		check(t, err, codes.Unauthenticated, notAuthenticated)
	}
	if len(l.asked) > 0 {
		t.Error("the CA was asked")
	}
}

// Who has not switched client certificates on is not asked for any.
func TestClientCertificatesOff(t *testing.T) {
	t.Parallel()
	if got := newLab(t).service.TLS(nil).ClientAuth; got != tls.NoClientCert {
		t.Errorf("ClientAuth is %v", got)
	}
}
