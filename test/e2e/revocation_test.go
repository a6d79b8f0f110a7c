package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// verifiers are the programs of others that ask whether a certificate was revoked: OpenSSL, NSS (what Firefox has) and
// GnuTLS. They work in one folder, which has the certificates and the CRLs as files.
type verifiers struct {
	server  *testbed.Certloom
	dir     string
	ocsp    string            // plain HTTP, which NSS and GnuTLS want
	serials map[string]string // by the name of a certificate
}

// TestRevocation shows that the programs of others refuse what was revoked and what is held, accept what was released, and
// know what they cannot know; and that a server which checks clients' certificates against our lists does so too.
func TestRevocation(t *testing.T) {
	t.Parallel()
	v := newVerifiers(t)
	for _, name := range []string{"good", "revoked", "held", "released"} {
		v.issue(t, name)
	}
	v.lists(t)
	for name := range v.serials {
		v.judge(t, name, "")
	}
	handshake(t, v, map[string]bool{"good": true, "revoked": true, "held": true, "released": true})

	cli := func(args ...string) { v.server.CLI(t.Context(), t, args...) }
	cli("certificate", "revoke", v.serials["revoked"], "--reason", "keyCompromise")
	cli("certificate", "hold", v.serials["held"])
	cli("certificate", "hold", v.serials["released"])
	v.lists(t)
	v.judge(t, "good", "")
	v.judge(t, "revoked", "keyCompromise")
	v.judge(t, "held", "certificateHold")
	v.judge(t, "released", "certificateHold")
	v.unknown(t)
	v.several(t)
	handshake(t, v, map[string]bool{"good": true, "revoked": false, "held": false, "released": false})

	cli("certificate", "release", v.serials["released"])
	v.lists(t)
	v.judge(t, "good", "")
	v.judge(t, "released", "")
	v.judge(t, "held", "certificateHold")
	cli("certificate", "revoke", v.serials["held"], "--reason", "superseded")
	v.lists(t)
	v.judge(t, "held", "superseded")
	handshake(t, v, map[string]bool{"good": true, "revoked": false, "held": false, "released": true})

	// With its CA go all that it has issued, wherever the whole chain is checked.
	cli("ca", "revoke", "issuing", "--reason", "cACompromise", "--yes")
	v.lists(t)
	out := v.must(t, "openssl", "ocsp", "-issuer", "root.pem", "-cert", "issuing.pem", "-url", v.ocsp, "-CAfile", "root.pem")
	if !strings.Contains(out, "issuing.pem: revoked") || !strings.Contains(out, "Reason: cACompromise") {
		t.Errorf("of a CA that was revoked:\n%s", out)
	}
	handshake(t, v, map[string]bool{"good": false, "released": false})
}

// TestEmptyCRL shows that an empty list lets in again whom a hold kept out.
func TestEmptyCRL(t *testing.T) {
	t.Parallel()
	v := newVerifiers(t)
	v.issue(t, "good") // the server's own
	v.issue(t, "web")
	v.server.CLI(t.Context(), t, "certificate", "hold", v.serials["web"])
	v.lists(t)
	handshake(t, v, map[string]bool{"web": false})
	v.server.CLI(t.Context(), t, "certificate", "release", v.serials["web"])
	v.lists(t)
	if out := v.must(t, "openssl", "crl", "-in", "issuing.crl", "-inform", "der", "-noout", "-text"); !strings.Contains(out, "No Revoked Certificates") {
		t.Errorf("the list is not empty:\n%s", out)
	}
	handshake(t, v, map[string]bool{"web": true})
}

func newVerifiers(t *testing.T) *verifiers {
	t.Helper()
	for _, program := range []string{"openssl", "certutil", "crlutil", "vfychain", "ocsptool", "certtool"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: scripts/e2e.sh installs it", err)
		}
	}
	v := &verifiers{
		server: testbed.StartCertloom(t.Context(), t, testbed.Options{}), dir: testbed.Folder(t), serials: map[string]string{},
	}
	target, err := url.Parse(v.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: v.server.HTTPClient(t).Transport,
	})
	t.Cleanup(plain.Close)
	v.ocsp = plain.URL + "/ocsp/"
	for _, name := range []string{"root", "issuing"} {
		v.write(t, name+".pem", v.server.CLI(t.Context(), t, "ca", "get", name, "--pem"))
	}
	v.server.CLI(t.Context(), t, "profile", "create", "ci", "--template", "private-mtls", "--issuing-ca", "issuing", "--method", "rest-api",
		"--trust-domain", "cluster.local", "--allow-namespace", "*")
	v.must(t, "certutil", "-N", "-d", "sql:.", "--empty-password")
	v.must(t, "certutil", "-A", "-d", "sql:.", "-n", "root", "-t", "CT,C,C", "-i", "root.pem")
	v.must(t, "certutil", "-A", "-d", "sql:.", "-n", "issuing", "-t", ",,", "-i", "issuing.pem")
	return v
}

func (v *verifiers) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(v.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (v *verifiers) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = v.dir
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), err
}

func (v *verifiers) must(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := v.run(t.Context(), program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// issue gets a workload's certificate, and tells NSS of it.
func (v *verifiers) issue(t *testing.T, name string) {
	t.Helper()
	var made apiv1.NewCertificate
	out := v.server.CLI(t.Context(), t, "certificate", "request", "--profile", "ci", "--spiffe", "spiffe://cluster.local/ns/demo/sa/"+name,
		"--key-out", filepath.Join(v.dir, name+".key"), "-o", "json")
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	v.serials[name] = made.Certificate.Serial
	v.write(t, name+".pem", []byte(made.PEM))
	v.write(t, name+"-chain.pem", []byte(made.PEM+made.ChainPEM))
	v.must(t, "certutil", "-A", "-d", "sql:.", "-n", name, "-t", ",,", "-i", name+".pem")
}

// lists fetches the CRLs of all CAs of the chain, checks them, and puts them where verifiers look. Another replica's, or
// this one's a moment ago, may be a second old; this is the replica that revoked.
func (v *verifiers) lists(t *testing.T) {
	t.Helper()
	var bundle []byte
	for _, name := range []string{"issuing", "root"} {
		answer, err := v.server.HTTPClient(t).Get(v.server.URL + "/crl/" + name + ".crl")
		if err != nil {
			t.Fatal(err)
		}
		der, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("CRL of %s: %s, %v", name, answer.Status, err)
		}
		v.write(t, name+".crl", der)
		text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
		v.write(t, name+".crl.pem", text)
		bundle = append(bundle, text...)
		_, _ = v.run(t.Context(), "crlutil", "-D", "-d", "sql:.", "-n", name) // there is none at first
		v.must(t, "crlutil", "-I", "-d", "sql:.", "-i", name+".crl")
		v.must(t, "certtool", "--verify-crl", "--load-ca-certificate", name+".pem", "--infile", name+".crl.pem")
	}
	v.write(t, "crls.pem", bundle)
	var trusted []byte
	for _, name := range []string{"root.pem", "issuing.pem"} {
		text, err := os.ReadFile(filepath.Join(v.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, text...)
	}
	v.write(t, "trusted.pem", append(trusted, bundle...))
}

// judge has each program judge a certificate, by CRL and by OCSP. The reason is "" for one that is good.
func (v *verifiers) judge(t *testing.T, name, reason string) {
	t.Helper()
	leaf := name + ".pem"
	v.expect(t, reason == "", "certificate revoked", "openssl", "verify", "-crl_check_all", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "-CRLfile", "crls.pem", leaf)
	v.expect(t, reason == "", "has been revoked", "certutil", "-V", "-d", "sql:.", "-n", name, "-u", "C")
	v.expect(t, reason == "", "has been revoked", "vfychain", "-d", "sql:.", "-u", "0", name)
	v.expect(t, reason == "", "chain is revoked", "certtool", "--verify", "--load-ca-certificate", "root.pem", "--load-crl", "crls.pem", "--infile", name+"-chain.pem")
	for _, how := range [][]string{{"-nonce"}, {"-no_nonce"}} {
		out := v.must(t, "openssl", append([]string{"ocsp", "-issuer", "issuing.pem", "-cert", leaf, "-url", v.ocsp, "-CAfile", "root.pem"}, how...)...)
		if !strings.Contains(out, "Response verify OK") || reason == "" != strings.Contains(out, leaf+": good") ||
			reason != "" && (!strings.Contains(out, leaf+": revoked") || !strings.Contains(out, "Reason: "+reason)) {
			t.Errorf("openssl ocsp of %s (%q):\n%s", name, reason, out)
		}
	}
	out := v.must(t, "ocsptool", "--ask="+v.ocsp, "--nonce", "--load-issuer", "issuing.pem", "--load-cert", leaf, "--load-trust", "issuing.pem", "--outfile", name+".ocsp")
	if !strings.Contains(out, "Verifying OCSP Response: Success") || reason == "" != strings.Contains(out, "Certificate Status: good") ||
		reason != "" != strings.Contains(out, "Certificate Status: revoked") {
		t.Errorf("ocsptool of %s (%q):\n%s", name, reason, out)
	}
}

// expect has a program accept or refuse, for a reason that it says.
func (v *verifiers) expect(t *testing.T, good bool, why, program string, args ...string) {
	t.Helper()
	out, err := v.run(t.Context(), program, args...)
	if good && err != nil {
		t.Error(err)
	}
	if !good && (err == nil || !strings.Contains(out, why)) {
		t.Errorf("%s %s: %v, want %q:\n%s", program, strings.Join(args, " "), err, why, out)
	}
}

// unknown asks about what this CA never issued.
func (v *verifiers) unknown(t *testing.T) {
	t.Helper()
	out := v.must(t, "openssl", "ocsp", "-issuer", "issuing.pem", "-serial", "0x1234", "-url", v.ocsp, "-CAfile", "root.pem")
	if !strings.Contains(out, "0x1234: unknown") || !strings.Contains(out, "Response verify OK") {
		t.Errorf("of an unknown serial:\n%s", out)
	}
	v.must(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=Other CA", "-days", "1")
	if out, err := v.run(t.Context(), "openssl", "ocsp", "-issuer", "other.pem", "-serial", "0x1234", "-url", v.ocsp, "-CAfile", "root.pem"); !strings.Contains(out, "Responder Error: unauthorized (6)") {
		t.Errorf("of an unknown issuer: %v\n%s", err, out)
	}
}

// several asks about more than one certificate at once, and about a CA.
func (v *verifiers) several(t *testing.T) {
	t.Helper()
	out := v.must(t, "openssl", "ocsp", "-issuer", "issuing.pem", "-cert", "good.pem", "-cert", "revoked.pem", "-url", v.ocsp, "-CAfile", "root.pem")
	for _, want := range []string{"Response verify OK", "good.pem: good", "revoked.pem: revoked"} {
		if !strings.Contains(out, want) {
			t.Errorf("of two certificates: no %q in\n%s", want, out)
		}
	}
	out = v.must(t, "openssl", "ocsp", "-issuer", "root.pem", "-cert", "issuing.pem", "-url", v.ocsp, "-CAfile", "root.pem")
	if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "issuing.pem: good") {
		t.Errorf("of a CA:\n%s", out)
	}
	out = v.must(t, "openssl", "ocsp", "-issuer", "issuing.pem", "-cert", "good.pem", "-url", v.ocsp, "-CAfile", "root.pem", "-resp_text")
	for _, want := range []string{"OCSP Signing", "OCSP No Check", "Responder Id: "} {
		if !strings.Contains(out, want) {
			t.Errorf("the answer's signer: no %q in\n%s", want, out)
		}
	}
}

// handshake starts a server that wants clients' certificates and checks each CA of their chain against the lists, as Envoy
// does, and tries to get in.
func handshake(t *testing.T, v *verifiers, clients map[string]bool) {
	t.Helper()
	port := testbed.Ports(t, 1)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	server := testbed.Start(t, testbed.Program{
		Name: "s_server", Path: "openssl", Dir: v.dir,
		Args: []string{
			"s_server", "-accept", address, "-cert", "good.pem", "-key", "good.key", "-Verify", "3", "-verify_return_error",
			"-crl_check_all", "-CAfile", "trusted.pem", "-www",
		},
	})
	defer server.Kill()
	for name, let := range clients {
		err := errors.New("not tried")
		eventually(t, func(ctx context.Context) error {
			var up bool
			if up, err = v.enter(ctx, address, name); !up {
				return err
			}
			return nil
		})
		if (err == nil) != let {
			t.Errorf("client %s: %v, want to be let in: %t", name, err, let)
		}
	}
}

// enter reports whether the server was there, and why it did not let the client in.
func (v *verifiers) enter(ctx context.Context, address, name string) (up bool, err error) {
	own, err := tls.LoadX509KeyPair(filepath.Join(v.dir, name+"-chain.pem"), filepath.Join(v.dir, name+".key"))
	if err != nil {
		return false, err
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	// What is shown is whom the server lets in; it shows a workload's certificate itself.
	conn := tls.Client(raw, &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true})
	if err := conn.HandshakeContext(ctx); err != nil {
		return true, err
	}
	// In TLS 1.3 the server's verdict comes after the client's handshake.
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return true, err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.0 200")) {
		err = fmt.Errorf("answer %q", answer)
	}
	return true, err
}
