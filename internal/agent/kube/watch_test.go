package kube_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/fault"
)

func pod(namespace, name, account, node string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)},
		Spec:       corev1.PodSpec{ServiceAccountName: account, NodeName: node},
		Status:     corev1.PodStatus{Phase: phase},
	}
}

// start runs a Watch of the objects until the test ends.
func start(t *testing.T, objects ...runtime.Object) (*kube.Watch, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	watch, err := kube.NewWatch(kube.WatchConfig{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	if watch.Synced() == nil {
		t.Error("synced before the start")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- watch.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, watch.Synced)
	return watch, client
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

// asked counts the calls of the API server for single objects and for the Pods of a node.
func asked(client *fake.Clientset) int {
	n := 0
	for _, action := range client.Actions() {
		list, ok := action.(k8stesting.ListAction)
		if action.GetVerb() == "get" || ok && !list.GetListRestrictions().Fields.Empty() {
			n++
		}
	}
	return n
}

func TestLookups(t *testing.T) {
	t.Parallel()
	deleted := metav1.NewTime(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
	going := pod("demo", "going", "web", "node-1", corev1.PodRunning)
	going.DeletionTimestamp, going.Finalizers = &deleted, []string{"x"}
	watch, client := start(t,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web", UID: "sa-1"}},
		pod("demo", "web-0", "web", "node-1", corev1.PodRunning), going,
	)
	account, err := watch.ServiceAccount(t.Context(), "demo", "web", "sa-1")
	if err != nil || account.UID != "sa-1" || !account.Deleted.IsZero() {
		t.Errorf("got %+v, %v", account, err)
	}
	found, err := watch.Pod(t.Context(), "demo", "web-0", "uid-of-web-0")
	if want := (kube.Pod{Namespace: "demo", Name: "web-0", UID: "uid-of-web-0", ServiceAccount: "web", Node: "node-1"}); err != nil || found != want {
		t.Errorf("got %+v, %v", found, err)
	}
	if found, err = watch.Pod(t.Context(), "demo", "going", "uid-of-going"); err != nil || !found.Deleted.Equal(deleted.Time) {
		t.Errorf("got %+v, %v", found, err)
	}
	if n := asked(client); n != 0 {
		t.Errorf("the API server was asked %d times for what is known", n)
	}
	// What we know to be something else, or do not know, may be news.
	if account, err = watch.ServiceAccount(t.Context(), "demo", "web", "sa-2"); err != nil || account.UID != "sa-1" {
		t.Errorf("got %+v, %v", account, err)
	}
	if _, err = watch.Pod(t.Context(), "demo", "none", "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	if _, err = watch.ServiceAccount(t.Context(), "demo", "none", "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	if n := asked(client); n != 3 {
		t.Errorf("the API server was asked %d times, not 3", n)
	}
	client.PrependReactor("*", "*", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("no answer") })
	if _, err = watch.Pod(t.Context(), "demo", "none", "x"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if _, err = watch.RunsOn(t.Context(), "node-9", "demo", "web"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

func TestRunsOn(t *testing.T) {
	t.Parallel()
	watch, client := start(t,
		pod("demo", "web-0", "web", "node-1", corev1.PodRunning), pod("demo", "web-1", "web", "node-1", corev1.PodPending),
		pod("demo", "web-2", "web", "node-2", corev1.PodRunning), pod("demo", "job-0", "job", "node-1", corev1.PodSucceeded),
		pod("demo", "job-1", "job", "node-1", corev1.PodFailed), pod("other", "web-0", "web", "node-3", corev1.PodRunning),
	)
	for key, want := range map[string]int{
		"node-1/demo/web": 2, "node-2/demo/web": 1, "node-3/demo/web": 0, "node-1/demo/job": 0, "node-3/other/web": 1, "node-1/demo/none": 0,
	} {
		parts := strings.Split(key, "/")
		pods, err := watch.RunsOn(t.Context(), parts[0], parts[1], parts[2])
		if err != nil || len(pods) != want {
			t.Errorf("%s: %d Pods, %v, want %d", key, len(pods), err, want)
		}
	}
	if n := asked(client); n != 3 {
		t.Errorf("the API server was asked %d times, not for the 3 that the informer does not have", n)
	}
}

func TestTell(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	teller := kube.NewTeller(client)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- teller.Run(ctx) }()
	eventually(t, func() error {
		teller.Tell(kube.Pod{Namespace: "demo", Name: "web-0", UID: "uid"}, "CertificateRefused", strings.Repeat("x", 5000))
		events, err := client.CoreV1().Events("demo").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(events.Items) == 0 {
			return errors.New("no Event")
		}
		event := events.Items[0]
		if event.InvolvedObject.Kind != "Pod" || event.InvolvedObject.UID != "uid" || event.Reason != "CertificateRefused" ||
			event.Type != corev1.EventTypeWarning || len(event.Message) > 1024 {
			t.Errorf("%+v", event)
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
