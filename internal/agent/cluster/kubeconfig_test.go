package cluster_test

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/agent/cluster"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// kubeconfig is one as "istioctl create-remote-secret" makes it, with the fields of its cluster and its user.
func kubeconfig(server, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: west, cluster: {%s}}]
contexts: [{name: west, context: {cluster: west, user: west}}]
current-context: west
preferences: {}
users: [{name: west, user: {%s}}]
`, server, user)
}

func TestReadKubeconfig(t *testing.T) {
	t.Parallel()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testca.New(t).RootCert.Raw}))
	const server, token = `server: "https://west.example:6443"`, `token: SECRET`
	for name, c := range map[string]struct {
		text string
		want string // in the error; "" is accepted
	}{
		"accepts/istio":               {kubeconfig(server+", certificate-authority-data: "+ca, token), ""},
		"accepts/system-roots":        {kubeconfig(server, token), ""},
		"accepts/proxy":               {kubeconfig(server+`, proxy-url: "socks5://proxy:1080", tls-server-name: kubernetes`, token), ""},
		"refuses/empty":               {" \n", "is empty"},
		"refuses/not-yaml":            {"{SECRET", "cannot be read"},
		"refuses/other-kind":          {"kind: Secret\napiVersion: v1\n", "cannot be read"},
		"refuses/no-context":          {strings.Replace(kubeconfig(server, token), "current-context: west", "current-context: east", 1), `current-context "east" is none`},
		"refuses/no-user":             {strings.Replace(kubeconfig(server, token), "user: west}", "user: east}", 1), `user "east"`},
		"refuses/no-cluster":          {strings.Replace(kubeconfig(server, token), "cluster: west,", "cluster: east,", 1), `cluster "east"`},
		"refuses/exec":                {kubeconfig(server, token+`, exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}`), "exec, which runs a program"},
		"refuses/auth-provider":       {kubeconfig(server, `auth-provider: {name: gcp}`), "auth-provider"},
		"refuses/oidc":                {kubeconfig(server, `auth-provider: {name: oidc}`), "auth-provider"},
		"refuses/token-file":          {kubeconfig(server, `tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token`), "tokenFile, which reads a file"},
		"refuses/certificate-file":    {kubeconfig(server, token+`, client-certificate: /etc/passwd`), "client-certificate, which reads a file"},
		"refuses/key-file":            {kubeconfig(server, token+`, client-key: /etc/passwd`), "client-key, which reads a file"},
		"refuses/ca-file":             {kubeconfig(server+`, certificate-authority: /etc/passwd`, token), "certificate-authority, which reads a file"},
		"refuses/password":            {kubeconfig(server, `username: a, password: SECRET`), "username and password"},
		"refuses/act-as":              {kubeconfig(server, token+`, as: admin`), "as, which impersonates"},
		"refuses/act-as-groups":       {kubeconfig(server, token+`, as-groups: ["system:masters"]`), "as, which impersonates"},
		"refuses/no-credential":       {kubeconfig(server, ""), "neither a token nor"},
		"refuses/certificate-no-key":  {kubeconfig(server, "client-certificate-data: "+ca), "are not a certificate and its key"},
		"refuses/insecure":            {kubeconfig(server+", insecure-skip-tls-verify: true", token), "insecure-skip-tls-verify"},
		"refuses/http":                {kubeconfig(`server: "http://west.example"`, token), "https://HOST:PORT"},
		"refuses/no-server":           {kubeconfig("", token), "https://HOST:PORT"},
		"refuses/password-in-address": {kubeconfig(`server: "https://a:SECRET@west.example"`, token), "https://HOST:PORT"},
		"refuses/not-a-ca":            {kubeconfig(server+", certificate-authority-data: QUJD", token), "without a certificate"},
		"refuses/proxy-of-a-kind":     {kubeconfig(server+`, proxy-url: "file:///SECRET"`, token), "proxy-url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := cluster.ReadKubeconfig([]byte(c.text))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if config.Host != "https://west.example:6443" || config.BearerToken != "SECRET" || config.Insecure {
					t.Errorf("got %+v", config)
				}
				return
			}
			if !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// What is not used is not accepted either: another program may choose another context.
func TestReadKubeconfigOthers(t *testing.T) {
	t.Parallel()
	text := strings.Replace(kubeconfig(`server: "https://west.example:6443"`, "token: SECRET"), "users: [",
		"users: [{name: other, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}}}, ", 1)
	if _, err := cluster.ReadKubeconfig([]byte(text)); err == nil || !strings.Contains(err.Error(), `user "other" has exec`) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadKubeconfig(f *testing.F) {
	f.Add(kubeconfig(`server: "https://west.example:6443"`, "token: a"))
	f.Add(kubeconfig(`server: "https://west.example:6443"`, "exec: {command: sh}"))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		config, err := cluster.ReadKubeconfig([]byte(text))
		if err != nil {
			return
		}
		if config.ExecProvider != nil || config.AuthProvider != nil || config.BearerTokenFile != "" || config.Insecure ||
			config.CAFile+config.CertFile+config.KeyFile != "" || !strings.HasPrefix(strings.ToLower(config.Host), "https://") {
			t.Errorf("%q is accepted as %+v", text, config)
		}
	})
}
