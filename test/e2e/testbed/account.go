package testbed

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CreateAccount makes a ServiceAccount.
func (c *Cluster) CreateAccount(ctx context.Context, t T, namespace, name string) *corev1.ServiceAccount {
	t.Helper()
	made, err := c.Kube.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// CreatePod makes a Pod that runs as the ServiceAccount on the node, as far as the API server knows.
func (c *Cluster) CreatePod(ctx context.Context, t T, namespace, name, account, node string) *corev1.Pod {
	t.Helper()
	return c.makePod(ctx, t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "app"}},
		},
	})
}

// Deaf is an address on which nobody listens, for Pods that do not serve.
const Deaf = "127.66.77.88"

// MarkRunning gives a Pod the status that a kubelet would.
func (c *Cluster) MarkRunning(ctx context.Context, t T, pod *corev1.Pod, address string, since time.Time) {
	t.Helper()
	started := metav1.NewTime(since)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &started, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
	if _, err := c.Kube.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) makePod(ctx context.Context, t T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	made, err := c.Kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// DeletePod removes a Pod at once.
func (c *Cluster) DeletePod(ctx context.Context, t T, namespace, name string) {
	t.Helper()
	now := int64(0)
	if err := c.Kube.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
}

// Token asks the API server for a token of a ServiceAccount, bound to the Pod if there is one.
func (c *Cluster) Token(ctx context.Context, t T, account *corev1.ServiceAccount, pod *corev1.Pod, audiences ...string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID,
		}
	}
	made, err := c.Kube.CoreV1().ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made.Status.Token
}

// SigningKey is the key with which the API server signs tokens.
func (c *Cluster) SigningKey(t T) *ecdsa.PrivateKey {
	t.Helper()
	data, err := os.ReadFile(c.tokenKeys[0])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// addTokenKey makes a key that signs tokens from the next start on.
func (c *Cluster) addTokenKey() error {
	key, err := serviceAccountKey()
	if err != nil {
		return err
	}
	dir, name := filepath.Join(c.dir, "pki"), fmt.Sprintf("accounts-%d.key", len(c.tokenKeys)+1)
	if err := writeFiles(dir, map[string][]byte{name: key}); err != nil {
		return err
	}
	c.tokenKeys = append([]string{filepath.Join(dir, name)}, c.tokenKeys...)
	return nil
}

// RotateSigningKey restarts the API server with a new key that signs tokens. Those that are signed already stay good.
func (c *Cluster) RotateSigningKey(ctx context.Context, t T) {
	t.Helper()
	if err := c.addTokenKey(); err != nil {
		t.Fatal(err)
	}
	c.restartAPIServer(ctx, t)
}

// DropSigningKeys restarts the API server with the key that signs tokens, and without those of before.
func (c *Cluster) DropSigningKeys(ctx context.Context, t T) {
	t.Helper()
	c.tokenKeys = c.tokenKeys[:1]
	c.restartAPIServer(ctx, t)
}

func (c *Cluster) restartAPIServer(ctx context.Context, t T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	c.server.Kill()
	c.launchAPIServer(ctx, t)
}
