package connector

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

//go:embed templates
var templates embed.FS

// Input is everything that a package is made of. Its connector has passed Check.
type Input struct {
	Connector *pki.Connector
	Profile   *pki.Profile
	BaseURL   string // of the server, for people
	Directory string // the ACME directory
	AgentURL  string // where agents enrol
	HMACKey   string // of the credential, unpadded base64url
	Roots     string // PEM: what the mesh trusts
	ServerCA  string // PEM: what the server's own certificate leads to, "" when every system trusts it
	Chart     []byte // the chart of certloom-agent, packed; for mode agent
}

// File is one file of a package.
type File struct {
	Name   string
	Data   []byte
	Secret bool // it has the HMAC key
	Binary bool // it is no text
}

const (
	istioCSRName = "cert-manager-istio-csr"
	agentName    = "certloom-agent"
	// chartName is how Helm packs a chart, without a version: steps name it.
	chartName = agentName + ".tgz"

	certManagerRelease = "https://github.com/cert-manager/cert-manager/releases/download/v1.21.2/cert-manager.yaml"
)

// view is what templates show.
type view struct {
	*Input
	Name, Namespace, TrustDomain string
	Ambient, Agent               bool
	CAAddress                    string // host and port of Istio's certificate service
	Longest, IstiodLifetime      string
	IstiodRenewBefore            string
	ECDSA                        bool // of the keys that istio-csr and cert-manager make
	OnlyECDSA                    bool // the profile does not take Istio's default, RSA
	ImageRepository, ImageTag    string
	ImageDigest                  string
	CredentialJSON               string
	Steps                        []Step
	Files                        []File
}

func newView(in *Input) *view {
	c, rules := in.Connector, &in.Profile.Rules
	v := &view{
		Input: in, Name: c.Name, Namespace: c.Settings.IstioNamespace, TrustDomain: c.Settings.TrustDomain,
		Ambient: c.Settings.Dataplane == pki.Ambient, Agent: c.Mode == pki.ModeAgent,
		CAAddress: istioCSRName + "." + certManagerNamespace + ".svc:443",
		ECDSA:     slices.Contains(rules.Keys, pki.ECDSAP256),
		OnlyECDSA: !slices.Contains(rules.Keys, pki.RSA2048),
	}
	if v.Agent {
		v.CAAddress = agentName + "." + v.Namespace + ".svc:443"
		v.ImageRepository, v.ImageTag, v.ImageDigest = splitImage(c.Settings.AgentImage)
	}
	// Go's spelling of durations, which Helm charts hand on to programs; these know no days.
	v.Longest = goDuration(min(rules.Validity.Default, rules.Validity.Max))
	// cert-manager tries a failed renewal again after an hour: leave more time than that where the profile does.
	istiod := min(time.Duration(rules.Validity.Max), istiodLifetime)
	v.IstiodLifetime, v.IstiodRenewBefore = goDuration(pki.Duration(istiod)), goDuration(pki.Duration(istiod/2))
	return v
}

const istiodLifetime = 24 * time.Hour

// goDuration writes a duration without zero units at its end, and never in days.
func goDuration(d pki.Duration) string {
	text := time.Duration(d).String()
	if head, ok := strings.CutSuffix(text, "m0s"); ok {
		text = head + "m"
	}
	if head, ok := strings.CutSuffix(text, "h0m"); ok {
		text = head + "h"
	}
	return text
}

// splitImage takes REGISTRY/PATH:TAG@DIGEST apart; the chart puts it together again. A colon before the last slash is
// that of a registry's port.
func splitImage(text string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(text, "@")
	if at := strings.LastIndexByte(repository, ':'); at > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:at], repository[at+1:]
	}
	return repository, tag, digest
}

// Package makes the files of a package, in the order in which they are used.
func Package(in *Input) ([]File, error) {
	v := newView(in)
	if v.Agent {
		raw, err := json.Marshal(map[string]string{"agentUrl": in.AgentURL, "keyId": string(in.Connector.CredentialID), "hmacKey": in.HMACKey})
		if err != nil {
			return nil, fmt.Errorf("write credential: %w", err)
		}
		v.CredentialJSON = string(raw)
	}
	v.Steps = Steps(in.Connector)
	parsed, err := template.New("").Funcs(functions()).ParseFS(templates, "templates/*")
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	for _, name := range v.names() {
		var text bytes.Buffer
		if err := parsed.ExecuteTemplate(&text, name, v); err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		v.Files = append(v.Files, File{Name: name, Data: text.Bytes(), Secret: secret(name)})
	}
	v.Files = append(v.Files, File{Name: "root.pem", Data: []byte(in.Roots)})
	if v.Agent {
		v.Files = append(v.Files, File{Name: chartName, Data: in.Chart, Binary: true})
	}
	return v.Files, nil
}

// secret reports whether a file has the HMAC key.
func secret(name string) bool { return name == "10-eab-secret.yaml" || name == "10-agent-secret.yaml" }

// names lists the files that templates make.
func (v *view) names() []string {
	names := []string{"README.md", "apply.sh", "00-namespaces.yaml"}
	if v.Agent {
		names = append(names, "10-agent-secret.yaml", "certloom-agent-values.yaml")
	} else {
		names = append(names, "10-eab-secret.yaml", "20-root-secret.yaml", "30-issuer.yaml", "istio-csr-values.yaml")
	}
	names = append(names, "istio-operator.yaml", "istiod-values.yaml")
	if v.Ambient {
		names = append(names, "cni-values.yaml", "ztunnel-values.yaml")
	}
	return names
}

func functions() template.FuncMap {
	return template.FuncMap{
		// quote writes a string as JSON, which is YAML as well whatever is in it.
		"quote": func(text string) (string, error) {
			var b bytes.Buffer
			encoder := json.NewEncoder(&b)
			encoder.SetEscapeHTML(false)
			err := encoder.Encode(text)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"base64": func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
		// lines writes lines below a key, indented.
		"lines": func(spaces int, text string) string {
			indent := "\n" + strings.Repeat(" ", spaces)
			return strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", indent)
		},
		"inc": func(n int) int { return n + 1 },
	}
}
