package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/certloom/certloom/internal/agent/publish"
)

// deny refuses a verb, and counts.
func deny(client *fake.Clientset, verb, resource string) *atomic.Int64 {
	var tries atomic.Int64
	client.PrependReactor(verb, resource, func(k8stesting.Action) (bool, runtime.Object, error) {
		tries.Add(1)
		return true, nil, errors.New("admission webhook denied the request")
	})
	return &tries
}

func reaches(tries *atomic.Int64, most int64) func() error {
	return func() error {
		if n := tries.Load(); n < most {
			return fmt.Errorf("%d tries", n)
		}
		return nil
	}
}

func withIstiod(c *publish.Config) {
	c.Dial = func(context.Context, string) error { return errors.New("no network") }
	c.Istiod = &publish.Istiod{Namespace: "istio-system", Secret: "istiod-tls", TrustDomain: "cluster.local", Lifetime: time.Hour}
}

// A Secret that cannot be written does not cost a certificate at every try.
func TestIstiodDenied(t *testing.T) {
	t.Parallel()
	s, client := newSource(t), fake.NewClientset(space("istio-system", "", nil))
	tries := deny(client, "create", "secrets")
	run(t, s, client, withIstiod)
	eventually(t, reaches(tries, 3))
	if n := s.count(); n != 1 {
		t.Errorf("%d certificates were issued for a Secret that cannot be written", n)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// An update that fails is not another writer's work.
func TestUpdateDenied(t *testing.T) {
	t.Parallel()
	s, client := newSource(t), fake.NewClientset(space("one", "", nil), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "istio-ca-root-cert"}, Data: map[string]string{"root-cert.pem": "x"},
	})
	tries := deny(client, "update", "configmaps")
	var log lockedBuffer
	run(t, s, client, func(c *publish.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	eventually(t, reaches(tries, 6))
	if strings.Contains(log.String(), "another writer") {
		t.Errorf("the log names another writer:\n%s", log.String())
	}
}

// An agent elsewhere that writes the roots into this cluster does not keep the cluster's own from keeping istiod's certificate.
func TestLeaseOfAnotherCluster(t *testing.T) {
	t.Parallel()
	s, client := newSource(t), fake.NewClientset(space("istio-system", "", nil))
	run(t, s, client, func(c *publish.Config) { c.LeaseName = publish.RemoteLeaseName })
	eventually(t, holds(t, client, "istio-system", s))
	run(t, s, client, withIstiod)
	eventually(t, func() error {
		_, err := client.CoreV1().Secrets("istio-system").Get(t.Context(), "istiod-tls", metav1.GetOptions{})
		return err
	})
}
