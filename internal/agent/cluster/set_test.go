package cluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/agent/cluster"
	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/fault"
)

// found checks that the cluster of that ID serves, as the server of that name does.
func (l *lab) found(t *testing.T, id, server string) {
	t.Helper()
	eventually(t, func() error {
		member, err := l.set.Find(id)
		if err != nil {
			return err
		}
		if member.Name() != id {
			return fmt.Errorf("the inventory is told %q", member.Name())
		}
		if _, err := member.Verify(t.Context(), "a.token-of."+server); err != nil {
			return err
		}
		if _, err := member.Verify(t.Context(), "a.token-of.elsewhere"); !fault.Is(err, fault.Unauthenticated) {
			return fmt.Errorf("the token of another cluster: %w", err)
		}
		pods, err := member.RunsOn(t.Context(), "node-of-"+server, "demo", "web")
		if err != nil || len(pods) != 1 || pods[0].UID != "pod-of-"+server {
			return fmt.Errorf("Pods %v, %w", pods, err)
		}
		return nil
	})
}

// lost waits until the cluster of that ID is refused, for that reason.
func (l *lab) lost(t *testing.T, id, reason string) {
	t.Helper()
	eventually(t, func() error {
		_, err := l.set.Find(id)
		if !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "SECRET") {
			return fmt.Errorf("got %w, want %q", err, reason)
		}
		return nil
	})
}

// Clusters come, change and go with their Secrets, and none harms another.
func TestSecrets(t *testing.T) {
	t.Parallel()
	l := newLab(t, newServer("east", "pods"), newServer("west", "pods"))
	if _, err := l.set.Find("east"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("before the Secrets are known: %v", err)
	}
	l.put(t, "east", 1, map[string]string{"east": at("east", "SECRET1")})
	l.run(t)
	l.found(t, "east", "east")
	for _, id := range []string{"", "Kubernetes", "alias"} {
		if member, err := l.set.Find(id); err != nil || member.Name() != "" {
			t.Errorf("our own cluster, as %q: %v", id, err)
		}
	}
	l.lost(t, "north", `"north"; ["Kubernetes" "alias"] is expected, or one of the remote clusters ["east"]`)
	l.put(t, "west", 2, map[string]string{
		"west": at("west", "SECRET2"), "alias": at("west", "SECRET2"), "east": at("west", "SECRET2"), "bad!": at("west", "SECRET2"),
		"south": strings.Replace(at("west", "SECRET2"), "token: SECRET2", "exec: {apiVersion: client.authentication.k8s.io/v1, command: SECRET}", 1),
		"north": at("nowhere", "SECRET2"),
	})
	l.found(t, "west", "west")
	l.found(t, "east", "east")
	l.lost(t, "south", "Secret istio-system/west does not count: the kubeconfig is not accepted: user \"west\" has exec")
	l.lost(t, "north", "no such host in the test")
	l.expect(t, 2, 0, 3, 2)
	// An update of a Secret that changes nothing of a cluster does not connect again.
	l.put(t, "west", 2, map[string]string{"west": at("west", "SECRET2"), "south": "x"})
	l.lost(t, "south", "cannot be read")
	l.expect(t, 2, 0, 1, 0)
	if got := l.connections(); got != "east SECRET1, west SECRET2" {
		t.Errorf("connected as %q", got)
	}
	// Another kubeconfig does, and one that is broken does not leave the old one in force.
	l.put(t, "east", 1, map[string]string{"east": at("west", "SECRET3")})
	l.found(t, "east", "west")
	l.put(t, "east", 1, map[string]string{"east": ""})
	l.lost(t, "east", "is empty")
	l.remove(t, "west")
	l.lost(t, "west", `"Kubernetes"`)
	l.expect(t, 0, 0, 1, 0)
	for _, want := range []string{`cluster=east secret=istio-system/east`, "remote cluster removed", "is the ID of the cluster that the agent runs in", "Secret istio-system/east already, which is older"} {
		if !strings.Contains(l.log.String(), want) {
			t.Errorf("the log does not have %q", want)
		}
	}
	if strings.Contains(l.log.String(), "SECRET") {
		t.Errorf("the log has a secret: %s", l.log.String())
	}
}

// Of two Secrets with the same cluster the older counts; when it goes, the other does.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	l := newLab(t, newServer("east", "pods"), newServer("west", "pods"))
	l.put(t, "younger", 5, map[string]string{"far": at("west", "a")})
	l.put(t, "older", 1, map[string]string{"far": at("east", "a")})
	l.run(t)
	l.found(t, "far", "east")
	l.expect(t, 1, 0, 0, 1)
	l.remove(t, "older")
	l.found(t, "far", "west")
	l.expect(t, 1, 0, 0, 0)
	// Neither does a broken older one hand its ID to the younger.
	l.put(t, "older", 1, map[string]string{"far": "x"})
	l.lost(t, "far", "cannot be read")
	l.expect(t, 0, 0, 1, 1)
}

// An API server that does not answer costs its own callers an Unavailable, and is found again without a restart.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	east, west := newServer("east", "pods"), newServer("west", "pods")
	east.setDown(true)
	l := newLab(t, east, west)
	l.put(t, "both", 1, map[string]string{"east": at("east", "a"), "west": at("west", "a")})
	l.run(t)
	l.found(t, "west", "west")
	l.expect(t, 1, 1, 0, 0)
	member, err := l.set.Find("east")
	if err != nil {
		t.Fatal(err)
	}
	member.Tell(kube.Pod{}, "a", "b") // to nobody
	_, err = member.Verify(t.Context(), "a.token-of.east")
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), `"east" has not answered yet`) {
		t.Errorf("got %v", err)
	}
	if _, err = member.Pod(t.Context(), "demo", "web-0", ""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if _, err = member.RunsOn(t.Context(), "node-of-east", "demo", "web"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	east.setDown(false)
	l.found(t, "east", "east")
	l.expect(t, 2, 0, 0, 0)
}

// What was known counts for an hour when the API server does not answer any more.
func TestForget(t *testing.T) {
	t.Parallel()
	east := newServer("east", "pods")
	l := newLab(t, east)
	l.put(t, "east", 1, map[string]string{"east": at("east", "a")})
	l.run(t)
	l.found(t, "east", "east")
	var answer *http.Response
	var failure error
	transport := east.connection().WrapTransport(transportFunc(func(*http.Request) (*http.Response, error) { return answer, failure }))
	ask := func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://east.example", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := transport.RoundTrip(request); err == nil && response.Body != nil {
			response.Body.Close()
		}
	}
	member, err := l.set.Find("east")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		status int
		err    error
	}{"no-answer": {0, errors.New("connection refused")}, "unauthorized": {http.StatusUnauthorized, nil}, "broken": {http.StatusBadGateway, nil}} {
		answer, failure = &http.Response{StatusCode: c.status, Status: name}, c.err
		ask()
		l.expect(t, 0, 1, 0, 0)
		l.pass(59 * time.Minute)
		ask()
		if _, err := member.RunsOn(t.Context(), "node-of-east", "demo", "web"); err != nil {
			t.Errorf("%s: after 59 minutes: %v", name, err)
		}
		l.pass(2 * time.Minute)
		if _, err := member.RunsOn(t.Context(), "node-of-east", "demo", "web"); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: after 61 minutes: %v", name, err)
		}
		answer, failure = &http.Response{StatusCode: http.StatusForbidden}, nil
		ask()
		l.expect(t, 1, 0, 0, 0)
		if _, err := member.RunsOn(t.Context(), "node-of-east", "demo", "web"); err != nil {
			t.Errorf("%s: answered again: %v", name, err)
		}
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Without a namespace there are no remote clusters, and nothing is asked of the API server.
func TestNoRemotes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	own, err := l.set.Find("")
	if err != nil {
		t.Fatal(err)
	}
	set, err := cluster.NewSet(cluster.SetConfig{Own: own.(*cluster.Cluster), IDs: []string{"Kubernetes"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Find("east"); !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), `"east"; ["Kubernetes"] is expected`) {
		t.Errorf("got %v", err)
	}
	if _, err := cluster.NewSet(cluster.SetConfig{Own: own.(*cluster.Cluster)}); err == nil {
		t.Error("a set without names was made")
	}
	if _, err := cluster.NewSet(cluster.SetConfig{Own: own.(*cluster.Cluster), IDs: []string{"a"}, Namespace: "b"}); err == nil {
		t.Error("a set without a client was made")
	}
	if _, err := cluster.New(cluster.Config{}); err == nil {
		t.Error("a cluster without a client was made")
	}
}

// Where the keys may not be read, the API server is asked about tokens, whatever else is permitted.
func TestKeysForbidden(t *testing.T) {
	t.Parallel()
	l := newLab(t, newServer("east", "pods", "serviceaccounts", "/openid/v1/jwks"))
	l.put(t, "east", 1, map[string]string{"east": at("east", "a")})
	l.run(t)
	l.found(t, "east", "east")
	l.expect(t, 1, 0, 0, 0)
	if !strings.Contains(l.log.String(), "token_review=true") {
		t.Errorf("the log does not say how tokens are verified: %s", l.log.String())
	}
}

// The roots are written where that is permitted, and when that ends the cluster is served again.
func TestPublish(t *testing.T) {
	t.Parallel()
	east, west := newServer("east", "pods", "configmaps"), newServer("west", "pods")
	l := newLab(t, east, west)
	l.publishErr = errors.New("broken")
	l.put(t, "both", 1, map[string]string{"east": at("east", "a"), "west": at("west", "a")})
	l.run(t)
	l.found(t, "west", "west")
	eventually(t, func() error {
		if n := l.published(east); n != 2 {
			return fmt.Errorf("begun %d times, not 2", n)
		}
		return nil
	})
	l.found(t, "east", "east")
	if n := l.published(west); n != 0 {
		t.Errorf("what is not permitted was begun %d times", n)
	}
	if !strings.Contains(l.log.String(), "publisher: broken") {
		t.Errorf("the log does not say why: %s", l.log.String())
	}
}
