package testbed

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig returns a kubeconfig for this cluster that holds everything itself, as "istioctl create-remote-secret" makes it.
func (c *Cluster) Kubeconfig(t T, user *clientcmdapi.AuthInfo) []byte {
	t.Helper()
	config, err := clientcmd.LoadFromFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		t.Fatal(err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = user
	}
	raw, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// WriteRemoteSecret writes a Secret with the kubeconfig of a remote cluster into this one.
func (c *Cluster) WriteRemoteSecret(ctx context.Context, t T, id string, kubeconfig []byte) {
	t.Helper()
	_, err := c.Kube.CoreV1().Secrets("istio-system").Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "istio-remote-secret-" + id, Labels: map[string]string{"istio/multiCluster": "true"}},
		Data:       map[string][]byte{id: kubeconfig},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// Apply applies a file of deploy/agent.
func (c *Cluster) Apply(ctx context.Context, t T, file string) {
	t.Helper()
	root, err := moduleFolder()
	if err != nil {
		t.Fatal(err)
	}
	c.Kubectl(ctx, t, "apply", "-f", filepath.Join(root, "deploy", "agent", file))
}

// Pause stops the process where it is: it keeps its connections, and answers nothing.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if err := syscall.Kill(p.Pid(), s); err != nil {
		return fmt.Errorf("send %s to %s: %w", s, p.name, err)
	}
	return nil
}
