package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"

	"github.com/certloom/certloom/internal/agent/cluster"
)

// lab is an API server with Secrets, and others that the kubeconfigs in these name by their host.
type lab struct {
	own        *fake.Clientset
	registry   *prometheus.Registry
	set        *cluster.Set
	log        safeBuffer
	mu         sync.Mutex // guards what follows
	clock      time.Time
	servers    map[string]*server
	connecting []string
	publishing map[*server]int // times that it was begun
	publishErr error
}

// server is a remote API server that knows the token of its own name, of ServiceAccount demo/web in Pod web-0.
type server struct {
	*fake.Clientset
	name   string
	mu     sync.Mutex // guards what follows
	down   bool
	rights map[string]bool // resources and paths for which we have every right
	config *rest.Config
}

func (s *server) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// connection is what has been made of a kubeconfig for this server, nil before.
func (s *server) connection() *rest.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

func newServer(name string, rights ...string) *server {
	s := &server{name: name, rights: map[string]bool{}, Clientset: fake.NewClientset(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web-0", UID: types.UID("pod-of-" + name)},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "node-of-" + name},
	})}
	for _, resource := range rights {
		s.rights[resource] = true
	}
	s.PrependReactor("create", "selfsubjectaccessreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
		review, ok := created[*authorizationv1.SelfSubjectAccessReview](a)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !ok || s.down {
			return true, nil, errors.New("connection refused")
		}
		if path := review.Spec.NonResourceAttributes; path != nil {
			review.Status.Allowed = s.rights[path.Path]
		} else {
			review.Status.Allowed = s.rights[review.Spec.ResourceAttributes.Resource]
		}
		return true, review, nil
	})
	s.PrependReactor("create", "tokenreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
		review, ok := created[*authenticationv1.TokenReview](a)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !ok || s.down {
			return true, nil, errors.New("connection refused")
		}
		if review.Spec.Token == "a.token-of."+name {
			review.Status = authenticationv1.TokenReviewStatus{
				Authenticated: true, Audiences: review.Spec.Audiences,
				User: authenticationv1.UserInfo{Username: "system:serviceaccount:demo:web", Groups: []string{"system:serviceaccounts"}},
			}
		}
		return true, review, nil
	})
	return s
}

func created[T runtime.Object](a k8stesting.Action) (T, bool) {
	var none T
	action, ok := a.(k8stesting.CreateAction)
	if !ok {
		return none, false
	}
	object, ok := action.GetObject().DeepCopyObject().(T)
	return object, ok
}

const host = "https://%s.example:6443"

// newLab runs a set of clusters until the test ends.
func newLab(t *testing.T, servers ...*server) *lab {
	t.Helper()
	l := &lab{own: fake.NewClientset(), registry: prometheus.NewRegistry(), servers: map[string]*server{}, clock: time.Now(), publishing: map[*server]int{}}
	for _, s := range servers {
		l.servers[fmt.Sprintf(host, s.name)] = s
	}
	logger := slog.New(slog.NewTextHandler(&l.log, nil))
	rules := cluster.Rules{Audiences: []string{"istio-ca"}}
	own, err := cluster.New(cluster.Config{Client: l.own, Rules: rules, TokenReview: true, Now: l.now, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	l.set, err = cluster.NewSet(cluster.SetConfig{
		Own: own, IDs: []string{"Kubernetes", "alias"}, Client: l.own, Namespace: "istio-system", Connect: l.connect, Rules: rules,
		Publish: l.publish, PublishNeeds: cluster.Verbs([]string{"create"}, "", "configmaps"),
		Now: l.now, Logger: logger, Registerer: l.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = l.clock.Add(d)
}

func (l *lab) connect(config *rest.Config) (kubernetes.Interface, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.servers[config.Host]
	if !ok {
		return nil, errors.New("no such host in the test")
	}
	l.connecting = append(l.connecting, s.name+" "+config.BearerToken)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = config
	return s, nil
}

// publish ends with an error once if there is one.
func (l *lab) publish(ctx context.Context, client kubernetes.Interface, _ *slog.Logger) error {
	l.mu.Lock()
	err := l.publishErr
	l.publishErr = nil
	if s, ok := client.(*server); ok {
		l.publishing[s]++
	}
	l.mu.Unlock()
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// published says how often that was begun for a server.
func (l *lab) published(s *server) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.publishing[s]
}

// connections are the clients that were made: server and token.
func (l *lab) connections() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.connecting, ", ")
}

// put writes a Secret: cluster IDs and kubeconfigs, made so many seconds after the first of the test.
func (l *lab) put(t *testing.T, name string, age int, data map[string]string) {
	t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: name, Labels: map[string]string{"istio/multiCluster": "true"},
			CreationTimestamp: metav1.NewTime(time.Unix(1_780_000_000+int64(age), 0)),
		},
		Data: map[string][]byte{},
	}
	for id, text := range data {
		secret.Data[id] = []byte(text)
	}
	secrets := l.own.CoreV1().Secrets("istio-system")
	_, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	if err != nil {
		_, err = secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) remove(t *testing.T, name string) {
	t.Helper()
	if err := l.own.CoreV1().Secrets("istio-system").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// expect waits until there are so many clusters in each state.
func (l *lab) expect(t *testing.T, ready, unreachable, refused, duplicate int) {
	t.Helper()
	want := fmt.Sprintf(`# HELP certloom_agent_remote_clusters Remote clusters that Secrets name, by state: ready, unreachable (their API server does not answer, or has not told everything yet), refused (kubeconfig or ID not accepted), duplicate (the ID is another cluster's).
# TYPE certloom_agent_remote_clusters gauge
certloom_agent_remote_clusters{state="duplicate"} %d
certloom_agent_remote_clusters{state="ready"} %d
certloom_agent_remote_clusters{state="refused"} %d
certloom_agent_remote_clusters{state="unreachable"} %d
`, duplicate, ready, refused, unreachable)
	eventually(t, func() error { return testutil.GatherAndCompare(l.registry, strings.NewReader(want)) })
}

// at returns a kubeconfig for a server of the lab.
func at(name, token string) string {
	return kubeconfig(fmt.Sprintf("server: %q", fmt.Sprintf(host, name)), "token: "+token)
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-ticker.C:
		}
	}
}

// safeBuffer is a buffer that may be written and read at once.
type safeBuffer struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
