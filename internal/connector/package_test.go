package connector_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/certloom/certloom/deploy/charts"
	"github.com/certloom/certloom/internal/connector"
	"github.com/certloom/certloom/internal/pki"
)

// packages are those whose every byte is in testdata.
func packages() map[string]func() (*pki.Connector, *connector.Subject) {
	of := func(method pki.EnrollmentMethod, name string, change func(*pki.Connector, *connector.Subject)) func() (*pki.Connector, *connector.Subject) {
		return func() (*pki.Connector, *connector.Subject) {
			s := subject(method)
			c := made(name, s, func(c *pki.Connector) { change(c, s) })
			return c, s
		}
	}
	return map[string]func() (*pki.Connector, *connector.Subject){
		"cert-manager": of(pki.MTLSOverACME, "east", func(*pki.Connector, *connector.Subject) {}),
		"agent":        of(pki.Agent, "east", func(*pki.Connector, *connector.Subject) {}),
		"cert-manager-ambient": of(pki.MTLSOverACME, "Prod_EU.1", func(c *pki.Connector, s *connector.Subject) {
			c.Settings = pki.ConnectorSettings{
				TrustDomain: "other.example", IstioNamespace: "mesh", Dataplane: pki.Ambient, IssuerName: "company-ca", Email: "mesh-owner@example.com",
			}
			s.Profile.Rules.Keys = []pki.KeyAlgorithm{pki.ECDSAP256}
			s.Profile.Rules.Validity.Max = pki.Duration(shortest)
		}),
		"agent-ambient": of(pki.Agent, "west", func(c *pki.Connector, _ *connector.Subject) {
			c.Settings = pki.ConnectorSettings{Dataplane: pki.Ambient, AgentImage: "registry.example.com:5000/mesh/certloom-agent:1.2"}
		}),
	}
}

const shortest = 3600_000_000_000 // an hour

func TestPackage(t *testing.T) {
	t.Parallel()
	for name, of := range packages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := of()
			texts := pack(t, c, s)
			for _, file := range slices.Sorted(maps.Keys(texts)) {
				if strings.HasSuffix(file, ".yaml") {
					documents(t, file, texts[file])
				}
				golden(t, name+"/"+file, texts[file])
			}
		})
	}
}

// documents reads YAML and returns its documents.
func documents(t *testing.T, file, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", file, err, text)
		}
		if document != nil {
			all = append(all, document)
		}
	}
}

func member(t *testing.T, document map[string]any, path ...string) any {
	t.Helper()
	var value any = document
	for _, key := range path {
		object, ok := value.(map[string]any)
		if !ok {
			t.Fatalf("no %s", strings.Join(path, "."))
		}
		value = object[key]
	}
	return value
}

// What the way by hand gets wrong most often must not be possible here.
func TestMistakesOfGuides(t *testing.T) {
	t.Parallel()
	for name, of := range packages() {
		c, s := of()
		texts := pack(t, c, s)
		whole := strings.Join(slices.Collect(maps.Values(texts)), "\n")
		t.Run(name+"/names are legal in Kubernetes", func(t *testing.T) {
			t.Parallel()
			legal := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
			for _, document := range documents(t, "manifests", string(connector.Manifests(c, filesOf(t, c, s)))) {
				if got, _ := member(t, document, "metadata", "name").(string); !legal.MatchString(got) {
					t.Errorf("object is called %q", got)
				}
			}
		})
		t.Run(name+"/nothing is left to fill in", func(t *testing.T) {
			t.Parallel()
			if at := regexp.MustCompile(`<[a-z_A-Z]+>|REPLACE|CHANGEME|HMAC_KEY|KEY_ID|BASE64`).FindString(whole); at != "" {
				t.Errorf("found %s", at)
			}
		})
		t.Run(name+"/workloads ask by themselves", func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(texts["README.md"], "Each workload asks by itself") || strings.Contains(whole, "DestinationRule") {
				t.Error("the README does not say who asks, or wants a DestinationRule")
			}
		})
		t.Run(name+"/Istio need not be removed", func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(texts["README.md"], "It need not be removed") {
				t.Error("the README does not say so")
			}
		})
		t.Run(name+"/all name the cluster alike", func(t *testing.T) {
			t.Parallel()
			values := documents(t, "istiod", texts["istiod-values.yaml"])[0]
			file := map[bool]string{true: "certloom-agent-values.yaml", false: "istio-csr-values.yaml"}[c.Mode == pki.ModeAgent]
			signer := documents(t, file, texts[file])[0]
			if a, b := member(t, values, "global", "multiCluster", "clusterName"), member(t, signer, "app", "server", "clusterID"); a != c.Name || a != b {
				t.Errorf("istiod says %v, and the signer %v", a, b)
			}
			if a := member(t, values, "pilot", "env", "ENABLE_CA_SERVER"); a != "false" {
				t.Errorf("ENABLE_CA_SERVER is %v, not the text false", a)
			}
		})
		if c.Mode != pki.ModeCertManager {
			continue
		}
		t.Run(name+"/the account's key is below acme", func(t *testing.T) {
			t.Parallel()
			issuer := documents(t, "issuer", texts["30-issuer.yaml"])[0]
			if got := member(t, issuer, "spec", "acme", "privateKeySecretRef", "name"); got != "certloom-acme-account" {
				t.Errorf("spec.acme.privateKeySecretRef.name is %v", got)
			}
			if got := member(t, issuer, "spec", "acme", "externalAccountBinding", "privateKeySecretRef"); got != nil {
				t.Errorf("externalAccountBinding has a private key: %v", got)
			}
		})
		t.Run(name+"/the key has no newline", func(t *testing.T) {
			t.Parallel()
			got, _ := member(t, documents(t, "secret", texts["10-eab-secret.yaml"])[0], "stringData", "secret").(string)
			if raw, err := base64.RawURLEncoding.Strict().DecodeString(got); err != nil || len(raw) != 32 || strings.ContainsAny(got, "\r\n") {
				t.Errorf("the key is %q", got)
			}
		})
		t.Run(name+"/kubectl describe certificate shows istiod's only", func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(texts["README.md"], "shows istiod's only") {
				t.Error("the README does not say so")
			}
		})
	}
}

func filesOf(t *testing.T, c *pki.Connector, s *connector.Subject) []connector.File {
	t.Helper()
	files, err := connector.Package(input(c, s))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestManifests(t *testing.T) {
	t.Parallel()
	for name, of := range packages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := of()
			files := filesOf(t, c, s)
			var kinds []string
			for _, document := range documents(t, "manifests", string(connector.Manifests(c, files))) {
				kind, _ := document["kind"].(string)
				kinds = append(kinds, kind)
				if kind != "ConfigMap" {
					continue
				}
				for _, f := range files {
					got, ok := member(t, document, "data", f.Name).(string)
					if ok && got != string(f.Data) {
						t.Errorf("the ConfigMap has another %s:\n%s", f.Name, got)
					}
					if ok && f.Secret {
						t.Errorf("the ConfigMap has %s", f.Name)
					}
				}
			}
			want := []string{"Namespace", "Namespace", "Secret", "Secret", "Issuer", "ConfigMap"}
			if c.Mode == pki.ModeAgent {
				want = []string{"Namespace", "Secret", "ConfigMap"}
			}
			if !slices.Equal(kinds, want) {
				t.Errorf("objects are %v, want %v", kinds, want)
			}
			steps := connector.ApplySteps(c, files, "https://ca.example.com/connect/x.yaml", true)
			var text strings.Builder
			for _, step := range steps {
				text.WriteString(strings.Join(step.Commands, "\n") + "\n")
			}
			golden(t, name+"/apply-steps.txt", text.String())
		})
	}
}

func TestZip(t *testing.T) {
	t.Parallel()
	c, s := packages()["cert-manager-ambient"]()
	files := filesOf(t, c, s)
	raw, err := connector.Zip(c, files, today())
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.File) != len(files) {
		t.Errorf("%d files, want %d", len(archive.File), len(files))
	}
	for i, f := range archive.File {
		if want := "certloom-istio-prod_eu.1/" + files[i].Name; f.Name != want {
			t.Errorf("name is %q, want %q", f.Name, want)
		}
		if secret := f.Mode().Perm() == 0o600; secret != files[i].Secret {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
}

func TestPackChart(t *testing.T) {
	t.Parallel()
	chart, err := charts.Agent()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := connector.PackChart(chart, "certloom-agent")
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	for _, want := range []string{"certloom-agent/Chart.yaml", "certloom-agent/templates/_helpers.tpl", "certloom-agent/values.yaml"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing among %v", want, names)
		}
	}
}
