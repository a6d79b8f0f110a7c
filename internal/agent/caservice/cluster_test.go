package caservice_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
)

// The name that a caller sends chooses the cluster whose keys and Pods count.
func TestClusters(t *testing.T) {
	t.Parallel()
	const db = "spiffe://cluster.local/ns/demo/sa/db"
	far := issuer.Caller{Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "uid-web-0", Cluster: "far"}
	for name, c := range map[string]struct {
		ask    ask
		names  string
		farErr error
		code   codes.Code
		want   issuer.Caller
	}{
		"accepts/far":                 {ask: ask{token: "farweb", cluster: "far"}, names: web, want: far},
		"accepts/far-impersonation":   {ask: ask{token: "farztunnel", cluster: "far", impersonate: db}, names: db, want: issuer.Caller{Namespace: "demo", ServiceAccount: "db", Pod: "db-0", PodUID: "uid-db-1", Node: "node-1", ImpersonatedBy: "istio-system/ztunnel/ztunnel-0", Cluster: "far"}},
		"refuses/near-token-to-far":   {ask: ask{token: "web", cluster: "far"}, names: web, code: codes.Unauthenticated},
		"refuses/far-token-to-near":   {ask: ask{token: "farweb", cluster: "Kubernetes"}, names: web, code: codes.Unauthenticated},
		"refuses/far-token-unnamed":   {ask: ask{token: "farweb"}, names: web, code: codes.Unauthenticated},
		"refuses/far-token-twice":     {ask: ask{token: "farweb", cluster: "far,far"}, names: web, code: codes.Unauthenticated},
		"refuses/far-token-elsewhere": {ask: ask{token: "farweb", cluster: "elsewhere"}, names: web, code: codes.Unauthenticated},
		"refuses/pod-of-near":         {ask: ask{token: "farztunnel", cluster: "far", impersonate: web}, names: web, code: codes.Unauthenticated},
		"comes-again/not-known-yet":   {ask: ask{token: "farweb", cluster: "far"}, names: web, farErr: fault.New(fault.Unavailable, "x"), code: codes.Unavailable},
		"comes-again/far-away-down":   {ask: ask{token: "farapi-down", cluster: "far"}, names: web, code: codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.farErr = c.farErr
			c.ask.csr = spiffe(t, c.names)
			_, err := l.call(t, c.ask)
			if c.code != codes.OK {
				check(t, err, c.code, notAuthenticated)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := l.asked[0].Caller; got != c.want {
				t.Errorf("the CA is told %+v, want %+v", got, c.want)
			}
		})
	}
}

// A name is what anybody sends, up to the limit of all headers: the log gets the beginning.
func TestLongClusterName(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := newLab(t, func(c *caservice.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	_, err := l.call(t, ask{token: "forged", cluster: strings.Repeat("a", 60_000), csr: spiffe(t, web)})
	check(t, err, codes.Unauthenticated, notAuthenticated)
	if n := log.Len(); n > 2000 || !strings.Contains(log.String(), "cluster=aaa") {
		t.Errorf("the log got %d bytes: %.300s", n, log.String())
	}
}

// An Event goes to the cluster that the Pod is in.
func TestTellFar(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := l.call(t, ask{token: "farweb-expired", cluster: "far", csr: spiffe(t, web)})
	check(t, err, codes.Unauthenticated, notAuthenticated)
	if len(l.near.told) != 0 || len(l.far.told) != 1 || !strings.Contains(l.far.told[0], "expired") {
		t.Errorf("told %q near and %q far away", l.near.told, l.far.told)
	}
}
