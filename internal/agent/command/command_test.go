package command_test

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/agent/command"
	"github.com/certloom/certloom/internal/testca"
)

// execute runs the command and returns its exit status, output and errors.
func execute(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := command.New(command.Config{
		Stdout: &stdout, Stderr: &stderr, Env: func(string) string { return "" }, Version: "v1.2.3", Now: time.Now, Random: rand.Reader,
	})
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	command.PrintError(&stderr, err)
	return command.ExitCode(err), stdout.String(), stderr.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const kubeconfig = `{"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"x","cluster":{"server":"https://127.0.0.1:1"}}],` +
	`"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"users":[{"name":"x","user":{"token":"t"}}]}`

// Everything that is wrong is said at once, with the flag and what is allowed.
func TestMistakes(t *testing.T) {
	t.Parallel()
	code, _, text := execute(t,
		"--log-level=loud", "--kubeconfig="+write(t, "kubeconfig", "{"), "--credential-file="+write(t, "credential", `{"keyId":"a"}`),
		"--server=x", "--server-ca-file="+write(t, "ca", "x"), "--serving-address=x", "--serving-certificate-dns-names=UPPER",
		"--serving-certificate-duration=1s", "--serving-signature-algorithm=DSA", "--serving-tls-min-version=VersionTLS10",
		"--serving-tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA", "--serving-tls-curve-preferences=P224", "--trust-domain=A/B",
		"--cluster-id=a b", "--token-audiences=", "--max-client-certificate-duration=1000000h", "--ca-trusted-node-accounts=ztunnel",
		"--readiness-probe-path=x", "--leader-election-namespace=A", "--root-configmap-name=B", "--configmap-namespace-selector=a in",
		"--max-concurrent-reconciles=0", "--istiod-cert-duration=1s", "--istiod-cert-renew-before=2s", "--istiod-cert-namespace=C",
		"--istiod-cert-secret=D", "--istiod-cert-key-size=7", "--istiod-cert-istio-revisions=E", "--istiod-cert-additional-dns-names=F",
		"--shutdown-delay=-1s", "--remote-clusters-namespace=G",
	)
	if code != 2 {
		t.Errorf("exit status %d", code)
	}
	for _, flag := range []string{
		"kubeconfig", "credential-file", "server", "server-ca-file", "serving-address", "serving-certificate-dns-names",
		"serving-certificate-duration", "serving-signature-algorithm", "serving-tls-min-version", "serving-tls-cipher-suites",
		"serving-tls-curve-preferences", "trust-domain", "cluster-id", "token-audiences", "max-client-certificate-duration",
		"ca-trusted-node-accounts", "readiness-probe-path", "leader-election-namespace", "root-configmap-name", "configmap-namespace-selector",
		"max-concurrent-reconciles", "istiod-cert-duration", "istiod-cert-renew-before", "istiod-cert-namespace", "istiod-cert-secret",
		"istiod-cert-key-algorithm", "istiod-cert-istio-revisions", "istiod-cert-additional-dns-names", "shutdown-delay",
		"remote-clusters-namespace",
	} {
		if !strings.Contains(text, "error: --"+flag+": ") {
			t.Errorf("nothing is said of --%s", flag)
		}
	}
	if !strings.Contains(text, `log level "loud"`) {
		t.Error("nothing is said of the log level")
	}
	if t.Failed() {
		t.Log(text)
	}
}

func rootFile(t *testing.T) string {
	t.Helper()
	return write(t, "root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testca.New(t).RootCert.Raw})))
}

func TestMistakesACME(t *testing.T) {
	t.Parallel()
	kube := "--kubeconfig=" + write(t, "kubeconfig", kubeconfig)
	key := write(t, "key", "MWJiMjQ5MDQ5YWUzOTFiN2JlOWNmODBmNDY2NWNhM2U=\n")
	good := []string{kube, "--issuer=acme", "--acme-directory=https://a/dir", "--root-ca-file=" + rootFile(t), "--acme-eab-key-id=k", "--acme-eab-key-file=" + key}
	for name, test := range map[string]struct {
		args []string
		want []string // flags of which something is said
	}{
		"several": {
			[]string{
				"--acme-directory=http://a", "--acme-email=x", "--acme-account-secret=A", "--acme-account-namespace=B", "--root-ca-file=" + key,
				"--acme-ca-file=" + key, "--acme-max-concurrent-orders=0",
			},
			[]string{"acme-directory", "acme-email", "acme-account-secret", "acme-account-namespace", "root-ca-file", "acme-ca-file", "acme-max-concurrent-orders"},
		},
		"no-root":        {[]string{"--root-ca-file="}, []string{"root-ca-file"}},
		"no-directory":   {[]string{"--acme-directory="}, []string{"acme-directory"}},
		"no-key":         {[]string{"--acme-eab-key-file="}, []string{"acme-eab-key-file"}},
		"no-key-id":      {[]string{"--acme-eab-key-id="}, []string{"acme-eab-key-id"}},
		"bad-key":        {[]string{"--acme-eab-key-file=" + write(t, "key", "secret secret")}, []string{"acme-eab-key-file"}},
		"both":           {[]string{"--credential-file=" + key}, []string{"credential-file"}},
		"bad-credential": {[]string{"--acme-eab-key-id=", "--acme-eab-key-file=", "--credential-file=" + write(t, "c", `{"keyId":"a","hmacKey":"secret secret"}`)}, []string{"credential-file"}},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			code, _, text := execute(t, append(slices.Clone(good), test.args...)...)
			if code != 2 || strings.Count(text, "error:") != len(test.want) || strings.Contains(text, "secret secret") {
				t.Errorf("exit status %d: %s", code, text)
			}
			for _, flag := range test.want {
				if !strings.Contains(text, "error: --"+flag+": ") {
					t.Errorf("nothing is said of --%s: %s", flag, text)
				}
			}
		})
	}
}

func TestMistakesCertManager(t *testing.T) {
	t.Parallel()
	code, _, text := execute(t, "--kubeconfig="+write(t, "kubeconfig", kubeconfig), "--issuer=cert-manager", "--issuer-name=A", "--issuer-kind=B_", "--issuer-group=",
		"--certificate-namespace=C", "--runtime-issuance-config-map-name=D", "--runtime-issuance-config-map-namespace=E",
		"--certificate-request-additional-annotations=a b=c", "--max-concurrent-certificate-requests=0", "--root-ca-file="+write(t, "root", "x"))
	flags := []string{
		"issuer-name", "issuer-kind", "issuer-group", "certificate-namespace", "runtime-issuance-config-map-name", "runtime-issuance-config-map-namespace",
		"certificate-request-additional-annotations", "max-concurrent-certificate-requests", "root-ca-file",
	}
	if code != 2 || strings.Count(text, "error:") != len(flags) {
		t.Errorf("exit status %d: %s", code, text)
	}
	for _, flag := range flags {
		if !strings.Contains(text, "error: --"+flag+": ") {
			t.Errorf("nothing is said of --%s: %s", flag, text)
		}
	}
	code, _, text = execute(t, "--kubeconfig="+write(t, "kubeconfig", kubeconfig), "--issuer=cert-manager", "-e=false")
	if code != 2 || strings.Count(text, "error:") != 1 || !strings.Contains(text, "error: --runtime-issuance-config-map-name: is needed with --issuer-enabled=false") {
		t.Errorf("exit status %d: %s", code, text)
	}
}

// With cert-manager as the issuer the rest of istio-csr's flags is taken too, letters included.
func TestIstioCSRIssuerFlags(t *testing.T) {
	t.Parallel()
	code, _, text := execute(t, "--kubeconfig="+write(t, "kubeconfig", kubeconfig), "--issuer=cert-manager", "-e=true", "-u=istio-ca", "-k=Issuer", "-g=cert-manager.io",
		"-c=istio-system", "-d=false", "--runtime-issuance-config-map-name=runtime", "--runtime-issuance-config-map-namespace=istio-system",
		"--certificate-request-additional-annotations=a.example.com/b=c,d=e", "--root-ca-file="+rootFile(t), "--trust-domain=A/B")
	// Only the trust domain is wrong.
	if code != 2 || strings.Count(text, "error:") != 1 || !strings.Contains(text, "--trust-domain") {
		t.Errorf("exit status %d: %s", code, text)
	}
}

// A secret does not get into a message, whatever is wrong with its file.
func TestMistakesAreNotSecrets(t *testing.T) {
	t.Parallel()
	const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"
	for _, text := range []string{`{"keyId":"a","hmacKey":"` + secret + `"`, `{"hmacKey":"` + secret + `"}`, `["` + secret + `"]`} {
		code, _, printed := execute(t, "--kubeconfig="+write(t, "kubeconfig", kubeconfig), "--credential-file="+write(t, "credential", text))
		if code != 2 || strings.Contains(printed, secret[:8]) {
			t.Errorf("exit status %d: %s", code, printed)
		}
	}
}

// A flag that the chosen issuer does not read is not passed over in silence.
func TestFlagsOfOtherIssuers(t *testing.T) {
	t.Parallel()
	kube, credential := "--kubeconfig="+write(t, "kubeconfig", kubeconfig), "--credential-file="+write(t, "credential", `{"keyId":"a","hmacKey":"YQ","agentUrl":"https://a:1"}`)
	code, _, text := execute(t, kube, credential, "--root-ca-file=x", "--trust-domain=A/B")
	if code != 2 || !strings.Contains(text, "error: --root-ca-file: only for --issuer acme and cert-manager, not for --issuer certloom\n") || !strings.Contains(text, "--trust-domain") {
		t.Errorf("exit status %d: %s", code, text)
	}
	code, _, text = execute(t, kube, "--issuer=acme", "--server=https://a:1", "--acme-directory=https://a/dir", "--root-ca-file="+rootFile(t))
	if code != 2 || strings.Count(text, "error:") != 1 || !strings.Contains(text, "error: --server: only for --issuer certloom, not for --issuer acme") {
		t.Errorf("exit status %d: %s", code, text)
	}
	code, _, text = execute(t, kube, "--issuer=vault", "--root-ca-file=x")
	if code != 2 || strings.Count(text, "error:") != 1 || !strings.Contains(text, `error: --issuer: "vault" is not one of certloom`) {
		t.Errorf("exit status %d: %s", code, text)
	}
}

func TestUnknownFlag(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--no-such-flag"}, {"--metrics-port=x"}} {
		if code, _, text := execute(t, args...); code != 2 || !strings.Contains(text, "--help") {
			t.Errorf("%v: exit status %d: %s", args, code, text)
		}
	}
}

// The flags of istio-csr whose meaning is the same are taken as istio-csr takes them.
func TestIstioCSRFlags(t *testing.T) {
	t.Parallel()
	code, _, text := execute(t,
		"-v=1", "--log-format=text", "--readiness-probe-port=6060", "--readiness-probe-path=/readyz", "--metrics-port=9402",
		"--trust-domain=cluster.local", "-t=1h", "--serving-certificate-dns-names=cert-manager-istio-csr.cert-manager.svc",
		"--serving-certificate-key-size=2048", "--serving-signature-algorithm=RSA", "--serving-tls-min-version=VersionTLS12",
		"--serving-tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "--serving-tls-curve-preferences=X25519,CurveP256",
		"-a=0.0.0.0:6443", "-m=1h", "--cluster-id=Kubernetes", "--enable-client-cert-authenticator=false",
		"--ca-trusted-node-accounts=istio-system/ztunnel,kube-system/ztunnel", "--leader-election-namespace=istio-system",
		"--configmap-namespace-selector=a=b", "--disable-kubernetes-client-rate-limiter=false", "--max-concurrent-reconciles=1",
		"--istiod-cert-enabled=true", "--istiod-cert-namespace=istio-system", "--istiod-cert-duration=1h", "--istiod-cert-renew-before=30m",
		"--istiod-cert-key-algorithm=RSA", "--istiod-cert-key-size=2048", "--istiod-cert-additional-dns-names=a.example.com",
		"--istiod-cert-istio-revisions=default", "--kubeconfig="+write(t, "kubeconfig", kubeconfig),
	)
	// Only the credential is missing.
	if code != 2 || strings.Count(text, "error:") != 1 || !strings.Contains(text, "--credential-file") {
		t.Errorf("exit status %d: %s", code, text)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	code, text, _ := execute(t, "--help")
	for _, group := range []string{"Certificate authority:", "Certloom server (--issuer certloom):", "ACME CA (--issuer acme):", "cert-manager (--issuer cert-manager):", "Certificate service:", "Who may call:", "Written into the cluster, by one replica:", "Kubernetes:", "Operation:"} {
		if !strings.Contains(text, "\n"+group+"\n") {
			t.Errorf("the help has no group %q", group)
		}
	}
	if code != 0 {
		t.Errorf("exit status %d", code)
	}
	if code, text, _ = execute(t, "--version"); code != 0 || text != "v1.2.3\n" {
		t.Errorf("exit status %d: %s", code, text)
	}
}
