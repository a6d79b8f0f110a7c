package caservice_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/internal/agent/caservice"
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
			key := testca.Key(t)
			if c.usage == 0 {
				c.usage = x509.ExtKeyUsageClientAuth
			}
			parsed, err := x509.ParseCertificateRequest(spiffe(t, c.names...))
			if err != nil {
				t.Fatal(err)
			}
			leaf := c.from.Leaf(t, &x509.Certificate{
				SerialNumber: l.RootCert.SerialNumber, URIs: parsed.URIs, ExtKeyUsage: []x509.ExtKeyUsage{c.usage},
				NotBefore: testca.Now().Add(-c.age - time.Hour), NotAfter: testca.Now().Add(time.Hour - c.age),
			}, key.Public())
			connection := l.dial(t, listener, func(config *tls.Config) {
				config.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw, c.from.IssuingCert.Raw}, PrivateKey: key}}
			})
			if err := l.create(t, connection, c.token, text); status.Code(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// Who has not switched client certificates on is not asked for any.
func TestClientCertificatesOff(t *testing.T) {
	t.Parallel()
	if got := newLab(t).service.TLS(nil).ClientAuth; got != tls.NoClientCert {
		t.Errorf("ClientAuth is %v", got)
	}
}
