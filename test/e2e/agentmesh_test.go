package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// crlMap reads the revocation lists of a namespace.
func (f *field) crlMap(ctx context.Context, namespace string) (string, []*x509.RevocationList, error) {
	got, err := f.cluster.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, "istio-ca-crl", metav1.GetOptions{})
	if err != nil {
		return "", nil, err
	}
	text := got.Data["ca-crl.pem"]
	var lists []*x509.RevocationList
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return "", nil, err
		}
		lists = append(lists, list)
	}
	if len(got.Data) != 1 || got.Labels["istio.io/config"] != "true" {
		return "", nil, fmt.Errorf("namespace %s has %v %.60q", namespace, got.Labels, got.Data)
	}
	return text, lists, nil
}

// covers checks that the lists of a namespace are one of each CA of the chain, signed by it.
func (f *field) covers(namespace string, cas []*x509.Certificate) func(context.Context) error {
	return func(ctx context.Context) error {
		_, lists, err := f.crlMap(ctx, namespace)
		if err != nil {
			return err
		}
		for _, ca := range cas {
			signed := false
			for _, list := range lists {
				signed = signed || list.CheckSignatureFrom(ca) == nil && time.Now().Before(list.NextUpdate)
			}
			if !signed {
				return fmt.Errorf("namespace %s has no list of %s among %d", namespace, ca.Subject, len(lists))
			}
		}
		return nil
	}
}

// testCRLMap shows that what is revoked reaches every namespace within seconds, in lists that OpenSSL takes.
func (f *field) testCRLMap(t *testing.T) {
	ctx := t.Context()
	account, pod := f.workload(t, "revoked")
	key := newECKey(t)
	chain := f.create(t, f.callers["local"], testbed.Ask{
		Token: f.cluster.Token(ctx, t, account, pod, "istio-ca"), CSR: requestWith(t, key, identityOf(account)),
	}, codes.OK)
	certs, err := testbed.ParseChain([]byte(strings.Join(chain, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"default", "kube-system", "demo"} {
		eventually(t, f.covers(namespace, certs[1:]))
	}
	if err := f.openssl(t, chain); err != nil {
		t.Errorf("before it is revoked: %v", err)
	}
	f.cluster.Kubectl(ctx, t, "create", "namespace", "lists")
	eventually(t, f.covers("lists", certs[1:]))
	f.cluster.Kubectl(ctx, t, "delete", "configmap", "istio-ca-crl", "--namespace", "lists")
	eventually(t, f.covers("lists", certs[1:]))
	f.cluster.Kubectl(ctx, t, "patch", "configmap", "istio-ca-crl", "--namespace", "demo", "--type=merge", "--patch",
		`{"data":{"ca-crl.pem":"wrong","more":"x"},"metadata":{"labels":{"istio.io/config":null}}}`)
	eventually(t, f.covers("demo", certs[1:]))

	f.server.CLI(ctx, t, "certificate", "revoke", testbed.Serial(certs[0]), "--reason", "keyCompromise")
	revoked := time.Now()
	eventually(t, func(ctx context.Context) error {
		_, lists, err := f.crlMap(ctx, "demo")
		if err != nil {
			return err
		}
		for _, list := range lists {
			for _, entry := range list.RevokedCertificateEntries {
				if entry.SerialNumber.Cmp(certs[0].SerialNumber) == 0 {
					return nil
				}
			}
		}
		return errors.New("the revoked certificate is on no list")
	})
	t.Logf("in the ConfigMap %s after it was revoked", time.Since(revoked).Round(time.Millisecond))
	eventually(t, f.covers("demo", certs[1:]))
	if err := f.openssl(t, chain); err == nil || !strings.Contains(err.Error(), "certificate revoked") {
		t.Errorf("after it was revoked: %v", err)
	}
}

// openssl verifies a chain against the lists of namespace demo, as a verifier that checks each certificate of it.
func (f *field) openssl(t *testing.T, chain []string) error {
	t.Helper()
	text, _, err := f.crlMap(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"leaf.pem": chain[0], "above.pem": strings.Join(chain[1:len(chain)-1], ""), "root.pem": chain[len(chain)-1], "crl.pem": text,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check_all",
		"-CAfile", "root.pem", "-untrusted", "above.pem", "-CRLfile", "crl.pem", "leaf.pem")
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// testTrustBundles shows Istio's ClusterTrustBundle and ours with the roots, repaired.
func (f *field) testTrustBundles(t *testing.T) {
	ctx := t.Context()
	signers := map[string]string{"istio.io:istiod-ca:root-cert": "istio.io/istiod-ca", "certloom-roots": ""}
	good := func(ctx context.Context) error {
		roots, err := f.rootMap(ctx, "default")
		if err != nil {
			return err
		}
		for name, signer := range signers {
			got, err := f.cluster.Kube.CertificatesV1().ClusterTrustBundles().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got.Spec.SignerName != signer || got.Spec.TrustBundle != roots.Data["root-cert.pem"] {
				return fmt.Errorf("%s has signer %q, %.60q", name, got.Spec.SignerName, got.Spec.TrustBundle)
			}
		}
		return nil
	}
	eventually(t, good)
	roots, err := f.rootMap(ctx, "default")
	if err != nil {
		t.Fatal(err)
	}
	own, _ := pem.Decode([]byte(roots.Data["root-cert.pem"]))
	foreign := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: throwawayCA(t)})
	patch, err := json.Marshal(map[string]any{"spec": map[string]string{"trustBundle": string(foreign) + string(pem.EncodeToMemory(own))}})
	if err != nil {
		t.Fatal(err)
	}
	f.cluster.Kubectl(ctx, t, "patch", "clustertrustbundle", "certloom-roots", "--type=merge", "--patch", string(patch))
	f.cluster.Kubectl(ctx, t, "delete", "clustertrustbundle", "istio.io:istiod-ca:root-cert")
	eventually(t, good)
}

// throwawayCA makes a CA's certificate that nobody should trust.
func throwawayCA(t *testing.T) []byte {
	t.Helper()
	key := newECKey(t)
	template := &x509.Certificate{
		SerialNumber: newSerial(t), Subject: pkix.Name{CommonName: "stranger"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// testEarlyIstiod shows that an istiod that started before its certificate was there has an Event that says so.
func (f *field) testEarlyIstiod(t *testing.T) {
	ctx := t.Context()
	pods := f.cluster.Kube.CoreV1().Pods("istio-system")
	pod, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "istiod-0", Labels: map[string]string{"app": "istiod"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "discovery", Image: "istiod"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.cluster.MarkRunning(ctx, t, pod, testbed.Deaf, time.Now().Add(-time.Hour))
	eventually(t, func(ctx context.Context) error {
		events, err := f.cluster.Kube.CoreV1().Events("istio-system").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=istiod-0"})
		if err != nil {
			return err
		}
		for i := range events.Items {
			if event := &events.Items[i]; event.Reason == "StartedBeforeCertificate" && event.InvolvedObject.UID == pod.UID {
				return nil
			}
		}
		return fmt.Errorf("no Event about it among %d", len(events.Items))
	})
	f.cluster.DeletePod(ctx, t, "istio-system", "istiod-0")
}
