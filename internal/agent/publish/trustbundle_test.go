package publish_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/certloom/certloom/internal/agent/publish"
	"github.com/certloom/certloom/internal/testca"
)

func bundles(c *publish.Config) { c.TrustBundles, c.TrustBundle = true, "certloom-roots" }

// serving makes a fake API server say that it has ClusterTrustBundles of that version.
func serving(client *fake.Clientset, version string) {
	client.Resources = []*metav1.APIResourceList{{
		GroupVersion: "certificates.k8s.io/" + version, APIResources: []metav1.APIResource{{Name: "clustertrustbundles"}},
	}}
}

// trusted returns the roots and the signer of an object in that version.
func trusted(t *testing.T, client *fake.Clientset, version, name string) (roots, signer string, err error) {
	t.Helper()
	if version == "v1" {
		got, err := client.CertificatesV1().ClusterTrustBundles().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return "", "", err
		}
		return got.Spec.TrustBundle, got.Spec.SignerName, nil
	}
	got, err := client.CertificatesV1beta1().ClusterTrustBundles().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	return got.Spec.TrustBundle, got.Spec.SignerName, nil
}

func TestTrustBundles(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v1beta1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSource(t)
			client := fake.NewClientset(space("one", "", nil))
			serving(client, version)
			run(t, s, client, bundles)
			all := func() error {
				for name, want := range map[string]string{"istio.io:istiod-ca:root-cert": "istio.io/istiod-ca", "certloom-roots": ""} {
					roots, signer, err := trusted(t, client, version, name)
					if err != nil {
						return err
					}
					if roots != s.Bundle().PEM || signer != want {
						return fmt.Errorf("%s of signer %q has %.60q", name, signer, roots)
					}
				}
				return nil
			}
			eventually(t, all)
			s.trust(t, s.RootCert.Raw, testca.New(t).RootCert.Raw)
			eventually(t, all)
			if version == "v1" {
				api := client.CertificatesV1().ClusterTrustBundles()
				changed, err := api.Get(t.Context(), "certloom-roots", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				changed.Spec.TrustBundle = "x"
				if _, err := api.Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := api.Delete(t.Context(), "istio.io:istiod-ca:root-cert", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				eventually(t, all)
			}
			eventually(t, holds(t, client, "one", s)) // the ConfigMaps stay
		})
	}
}

// An API server without them has ConfigMaps, and nothing is asked of an API that is not there.
func TestNoTrustBundles(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	client := fake.NewClientset(space("one", "", nil))
	run(t, s, client, bundles)
	eventually(t, holds(t, client, "one", s))
	for _, action := range client.Actions() {
		if action.GetResource().Resource == "clustertrustbundles" {
			t.Errorf("%s of ClusterTrustBundles", action.GetVerb())
		}
	}
}

// A writer that changes everything back is named, once, and is not fought at full speed.
func TestContest(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	client := fake.NewClientset(space("one", "", nil), ownPod())
	var told told
	run(t, s, client, told.use)
	eventually(t, holds(t, client, "one", s))
	maps := client.CoreV1().ConfigMaps("one")
	eventually(t, func() error {
		got, err := maps.Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Data["root-cert.pem"] == s.Bundle().PEM { // what it does without an end
			now := metav1.NewTime(time.Now())
			got.Data["root-cert.pem"] = "istiod's"
			got.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "pilot-discovery", Operation: "Update", Time: &now}}
			if _, err := maps.Update(t.Context(), got, metav1.UpdateOptions{FieldManager: "pilot-discovery"}); err != nil {
				return err
			}
		}
		return told.has("agent-0 AnotherWriter", "ENABLE_CA_SERVER=false", "one/istio-ca-root-cert", "pilot-discovery")()
	})
	// News is written at once all the same.
	s.trust(t, s.RootCert.Raw, testca.New(t).RootCert.Raw)
	eventually(t, holds(t, client, "one", s))
}
