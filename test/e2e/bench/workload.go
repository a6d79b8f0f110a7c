package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

const (
	workloadNamespace = "bench"
	workloadPrefix    = "spiffe://cluster.local/ns/" + workloadNamespace + "/sa/"
	// makers is how many objects are made in the API server at once.
	makers = 16
	// day is the lifetime that Istio's agents ask for.
	day = 24 * 60 * 60
)

// workload is a Pod with its ServiceAccount, and what it sends: made before anything is measured, since a real one makes
// it on a machine of its own.
type workload struct {
	id       string
	account  *corev1.ServiceAccount
	pod      *corev1.Pod
	headers  metadata.MD
	requests [][]byte // encoded; each for a key of its own
}

// makeWorkloads has the API server know n workloads, each with a token, and with as many requests as each says.
func makeWorkloads(ctx context.Context, s *session, cluster *testbed.Cluster, n int, each func(i int) int) []*workload {
	cluster.Kubectl(ctx, s, "create", "namespace", workloadNamespace)
	all := make([]*workload, n)
	must(s, inParallel(s, n, func(i int) error {
		name := fmt.Sprintf("workload-%04d", i)
		w := &workload{
			id:      workloadPrefix + name,
			account: cluster.CreateAccount(ctx, s, workloadNamespace, name),
			pod:     cluster.CreatePod(ctx, s, workloadNamespace, name, name, fmt.Sprintf("node-%d", i%10)),
		}
		all[i] = w
		w.renewToken(ctx, s, cluster)
		for range each(i) {
			request, err := w.request()
			if err != nil {
				return err
			}
			w.requests = append(w.requests, request)
		}
		return nil
	}))
	return all
}

// inParallel calls f for each number below n.
func inParallel(s *session, n int, f func(i int) error) error {
	var tasks errgroup.Group
	tasks.SetLimit(makers)
	for i := range n {
		tasks.Go(func() error { return guard(func() error { return f(i) }, s.note) })
	}
	return tasks.Wait()
}

// renewToken gives the workload a token that nobody has seen.
func (w *workload) renewToken(ctx context.Context, s *session, cluster *testbed.Cluster) {
	token := cluster.Token(ctx, s, w.account, w.pod, "istio-ca")
	w.headers = metadata.Pairs("authorization", "Bearer "+token, "ClusterID", "Kubernetes")
}

// request encodes what pilot-agent sends, for a key of its own.
func (w *workload) request() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := url.Parse(w.id)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return nil, err
	}
	extra, err := structpb.NewStruct(map[string]any{"CertSigner": ""})
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&istio.IstioCertificateRequest{
		Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		ValidityDuration: day, Metadata: extra,
	})
}
