package publish_test

import (
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/publish"
	"github.com/certloom/certloom/internal/testca"
)

// lists are what a CA says of revocation lists.
type lists struct {
	mu       sync.Mutex
	crls     *issuer.CRLs
	withheld string
	ahead    atomic.Int64 // of the clock
}

func (l *lists) CRLs() *issuer.CRLs {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.crls
}

func (l *lists) Withheld() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.withheld
}

func (l *lists) set(crls *issuer.CRLs, withheld string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crls, l.withheld = crls, withheld
}

func (l *lists) now() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) }

// use lets a publisher keep lists.
func (l *lists) use(c *publish.Config) {
	c.CRLMap, c.CRLs, c.Now = "istio-ca-crl", l, l.now
}

// signed are lists of both CAs.
func signed(t *testing.T, h *testca.Hierarchy, life time.Duration, revoked ...*big.Int) *issuer.CRLs {
	t.Helper()
	now := time.Now()
	crls, err := issuer.NewCRLs(h.CRLs(t, now, now.Add(life), revoked...), now)
	if err != nil {
		t.Fatal(err)
	}
	crls.Version = rand.Text()
	return crls
}

// listed checks what a namespace has; "" is a ConfigMap without lists.
func listed(t *testing.T, client *fake.Clientset, namespace, want string) func() error {
	t.Helper()
	return func() error {
		got, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "istio-ca-crl", metav1.GetOptions{})
		if err != nil {
			return err
		}
		data, has := got.Data["ca-crl.pem"]
		if data != want || has != (want != "") || len(got.Data) > 1 ||
			got.Labels["istio.io/config"] != "true" || got.Labels["app.kubernetes.io/managed-by"] != "certloom-agent" {
			return fmt.Errorf("%s has %v, %.80q", namespace, got.Labels, got.Data)
		}
		return nil
	}
}

func published(namespace, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "istio-ca-crl", Labels: map[string]string{
			"istio.io/config": "true", "app.kubernetes.io/managed-by": "certloom-agent",
		}},
		Data: map[string]string{"ca-crl.pem": text},
	}
}

// Lists reach old and new namespaces, follow the CA, and are repaired.
func TestCRLMaps(t *testing.T) {
	t.Parallel()
	s, l := newSource(t), &lists{}
	l.set(signed(t, s.Hierarchy, time.Hour), "")
	client := fake.NewClientset(space("one", "", nil), space("two", "", nil), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "two", Name: "istio-ca-crl"}, Data: map[string]string{"ca-crl.pem": "", "x": "y"},
	})
	run(t, s, client, l.use)
	eventually(t, listed(t, client, "one", l.CRLs().PEM))
	eventually(t, listed(t, client, "two", l.CRLs().PEM))
	eventually(t, holds(t, client, "one", s))
	l.set(signed(t, s.Hierarchy, time.Hour, big.NewInt(17)), "")
	eventually(t, listed(t, client, "one", l.CRLs().PEM))
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), space("later", corev1.NamespaceActive, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, listed(t, client, "later", l.CRLs().PEM))
	if err := client.CoreV1().ConfigMaps("one").Delete(t.Context(), "istio-ca-crl", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().ConfigMaps("two").Update(t.Context(), published("two", "x"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, listed(t, client, "one", l.CRLs().PEM))
	eventually(t, listed(t, client, "two", l.CRLs().PEM))

	// What cannot be replaced before it ends goes, and comes back with new lists.
	l.ahead.Store(int64(58 * time.Minute))
	for _, namespace := range []string{"one", "two", "later"} {
		eventually(t, listed(t, client, namespace, ""))
	}
	l.set(signed(t, s.Hierarchy, 3*time.Hour), "")
	eventually(t, listed(t, client, "one", l.CRLs().PEM))

	// So it is when the CA says that there are none.
	l.set(nil, "a CA is not known here")
	eventually(t, listed(t, client, "one", ""))
}

// What an agent finds before it has heard of the CA: good lists stay until shortly before their end, others go.
func TestCRLMapsOfBefore(t *testing.T) {
	t.Parallel()
	s, stranger := newSource(t), testca.NewWith(t, testca.Options{Now: time.Now()})
	good, short := signed(t, s.Hierarchy, time.Hour), signed(t, s.Hierarchy, 2*time.Minute)
	garbage := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")}))
	foreign := published("foreign", "not ours")
	foreign.Labels = nil
	for name, source := range map[string]publish.Config{"known": {CRLs: &lists{}}, "no-source": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l lists
			client := fake.NewClientset(
				space("good", "", nil), published("good", good.PEM), space("short", "", nil), published("short", short.PEM),
				space("garbage", "", nil), published("garbage", garbage), space("text", "", nil), published("text", good.PEM+"x"),
				space("stranger", "", nil), published("stranger", signed(t, stranger, time.Hour).PEM),
				space("foreign", "", nil), foreign, published("unselected", short.PEM), space("none", "", nil),
			)
			run(t, s, client, func(c *publish.Config) { c.CRLMap, c.CRLs, c.Now = "istio-ca-crl", source.CRLs, l.now })
			for _, namespace := range []string{"short", "garbage", "text", "stranger", "unselected"} {
				eventually(t, listed(t, client, namespace, ""))
			}
			eventually(t, listed(t, client, "good", good.PEM))
			eventually(t, holds(t, client, "none", s))
			if err := listed(t, client, "none", "")(); err == nil {
				t.Error("a ConfigMap was made without lists")
			}
			got, err := client.CoreV1().ConfigMaps("foreign").Get(t.Context(), "istio-ca-crl", metav1.GetOptions{})
			if err != nil || got.Data["ca-crl.pem"] != "not ours" {
				t.Errorf("somebody else's ConfigMap has %v, %v", got.Data, err)
			}
		})
	}
}

// Lists that a ConfigMap does not take are not written; those of before stay.
func TestCRLMapTooLarge(t *testing.T) {
	t.Parallel()
	s, l := newSource(t), &lists{}
	before := signed(t, s.Hierarchy, time.Hour)
	l.set(before, "")
	client := fake.NewClientset(space("one", "", nil), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "agent-0", UID: "own"}})
	var told told
	run(t, s, client, l.use, told.use)
	eventually(t, listed(t, client, "one", before.PEM))
	large := *signed(t, s.Hierarchy, time.Hour)
	large.PEM += strings.Repeat("#", 1<<20)
	l.set(&large, "")
	eventually(t, told.has("agent-0 RevocationListsNotPublished", "1048576"))
	if err := listed(t, client, "one", before.PEM)(); err != nil {
		t.Error(err)
	}
}

// told are Events.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (e *told) use(c *publish.Config) {
	c.Namespace, c.Pod = "istio-system", "agent-0"
	c.Tell = func(about *corev1.ObjectReference, reason, sentence string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if about.UID == "" || about.Kind == "" {
			sentence += " (about nothing)"
		}
		e.lines = append(e.lines, about.Name+" "+reason+": "+sentence)
	}
}

// has checks that there is exactly one Event of that beginning, and that it contains the rest.
func (e *told) has(prefix string, parts ...string) func() error {
	return func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		found := 0
		for _, line := range e.lines {
			good := strings.HasPrefix(line, prefix)
			for _, part := range parts {
				good = good && strings.Contains(line, part)
			}
			if good {
				found++
			}
		}
		if found != 1 {
			return fmt.Errorf("%d Events %s in %q", found, prefix, e.lines)
		}
		return nil
	}
}
