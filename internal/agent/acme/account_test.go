package acme_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/agent/acme"
	"github.com/certloom/certloom/internal/fault"
)

// Replicas that start at once, and one that starts again, share one account.
func TestReplicasShareAccount(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	replicas := []*replica{l.start(), l.start(), l.start()}
	for _, i := range replicas {
		l.ready(i)
	}
	late := l.start()
	l.ready(late)
	for _, i := range append(replicas, late) {
		if _, err := l.ask(i, time.Hour, web); err != nil {
			t.Error(err)
		}
	}
	data := l.secrets.data()
	if l.accounts() != 1 || !strings.HasPrefix(string(data["account-url"]), l.URL) || string(data["directory-url"]) != l.URL+"/acme/directory" ||
		string(data["eab-key-id"]) != string(l.Credentials["istio"].ID) {
		t.Errorf("%d accounts, Secret: account-url %s, directory-url %s, eab-key-id %s", l.accounts(), data["account-url"], data["directory-url"], data["eab-key-id"])
	}
}

// A Secret that cert-manager keeps for an Issuer can be used as well, and its account goes on.
func TestCertManagersSecret(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if _, err := l.secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretName}, Data: map[string][]byte{"tls.key": text, "other": []byte("x")},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := acmeclient.New(acmeclient.Config{DirectoryURL: l.URL + "/acme/directory", HTTPClient: l.Client, Key: key, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	account, err := client.Register(t.Context(), acmeclient.Registration{Binding: l.binding})
	if err != nil {
		t.Fatal(err)
	}
	i := l.start(func(c *acme.Config) { c.Email = "mesh@example.com" })
	l.ready(i)
	data := l.secrets.data()
	if l.accounts() != 1 || string(data["account-url"]) != account.URL || !bytes.Equal(data["tls.key"], text) || string(data["other"]) != "x" {
		t.Errorf("%d accounts, account-url %s", l.accounts(), data["account-url"])
	}
	l.ready(l.start(func(c *acme.Config) { c.Email = "mesh@example.com" })) // knows the account, and updates its contact
	if account, err = client.Account(t.Context()); err != nil || len(account.Contact) != 1 || account.Contact[0] != "mailto:mesh@example.com" {
		t.Errorf("contact: %+v, %v", account, err)
	}
}

// An account that is gone or dead is replaced, without anybody's help.
func TestAccountLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(l *lab){
		"deactivated": func(l *lab) { // one whose URL the Secret has
			client := l.accountClient()
			if _, err := client.Deactivate(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"unknown": func(l *lab) {
			l.secrets.with(func() { l.secrets.stored[secretName].Data["account-url"] = []byte(l.URL + "/acme/account/none") })
		},
		"Secret-deleted": func(l *lab) { l.secrets.with(func() { delete(l.secrets.stored, secretName) }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, acmetest.Options{})
			l.ready(l.start())
			lose(l)
			i := l.start()
			l.ready(i)
			if _, err := l.ask(i, time.Hour, web); err != nil {
				t.Error(err)
			}
			if want := map[string]int{"deactivated": 2, "unknown": 1, "Secret-deleted": 2}[name]; l.accounts() != want {
				t.Errorf("%d accounts, want %d", l.accounts(), want)
			}
		})
	}
}

// A new EAB credential takes a new account, which all replicas then use; one that is wrong leaves the old one alone.
func TestCredentialRotated(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	one, two := l.start(), l.start()
	l.ready(one)
	l.ready(two)
	before := string(l.secrets.data()["account-url"])
	l.use(acmetest.Credential{ID: "wrong", Key: []byte("0123456789abcdef0123456789abcdef")})
	started := l.seen("/new-account")
	eventually(t, func() error {
		if l.seen("/new-account") < started+4 {
			return errors.New("the wrong credential was not tried")
		}
		return nil
	})
	for _, i := range []*replica{one, two} {
		if _, err := l.ask(i, time.Hour, web); err != nil {
			t.Errorf("with a wrong credential: %v", err)
		}
	}
	if now := string(l.secrets.data()["account-url"]); now != before {
		t.Errorf("account %s was replaced by %s", before, now)
	}
	old := l.Credentials["istio"]
	fresh := l.newCredential("next")
	l.use(fresh)
	eventually(t, func() error {
		if id := string(l.secrets.data()["eab-key-id"]); id != string(fresh.ID) {
			return fmt.Errorf("the Secret's credential is %s", id)
		}
		return nil
	})
	if _, err := l.Catalog.RevokeCredential(t.Context(), old.ID, acmetest.By()); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*replica{one, two} {
		eventually(t, func() error {
			_, err := l.ask(i, time.Hour, web)
			return err
		})
	}
}

// When the credential is revoked, readiness says so, and workloads are not told that it is for good; a new one mends it.
func TestCredentialRevoked(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	clock := &acmetest.Clock{}
	i := l.start(func(c *acme.Config) { c.Now = clock.Now })
	l.ready(i)
	if _, err := l.Catalog.RevokeCredential(t.Context(), l.Credentials["istio"].ID, acmetest.By()); err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Minute) // the account has not been looked at for a while
	eventually(t, func() error {
		_, err := l.ask(i, time.Hour, web)
		if err == nil || kindOf(t, err) != fault.Unavailable {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("readiness says %v", err)
	}
	l.use(l.newCredential("next"))
	l.ready(i)
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
}

// When the account dies under replicas that run, they find out, and agree on one other account.
func TestAccountDies(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	clock := &acmetest.Clock{}
	own := func(c *acme.Config) { c.Now = clock.Now }
	replicas := []*replica{l.start(own), l.start(own), l.start(own)}
	for _, i := range replicas {
		l.ready(i)
	}
	if _, err := l.accountClient().Deactivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Minute) // it has not been looked at for a while
	for _, i := range replicas {
		eventually(t, func() error {
			_, err := l.ask(i, time.Hour, web)
			return err
		})
		l.ready(i)
	}
	if account, err := l.accountClient().Account(t.Context()); err != nil || account.Status != "valid" {
		t.Errorf("the account of the Secret: %+v, %v", account, err)
	}
	// What replicas made beside it at the same time they gave back.
	if n := l.accounts() - l.deactivated(); n != 1 {
		t.Errorf("%d accounts are left", n)
	}
}

func TestNoCredential(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	l.change(func() { l.binding = nil })
	i := l.start()
	eventually(t, func() error {
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "an EAB credential is needed") {
			return fmt.Errorf("readiness says %w", err)
		}
		return nil
	})
	if _, err := l.ask(i, time.Hour, web); kindOf(t, err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

// What is in a Secret does not get into messages.
func TestBadSecret(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	if _, err := l.secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretName}, Data: map[string][]byte{"tls.key": []byte("hunter2")},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	i := l.start()
	eventually(t, func() error {
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "delete the Secret") || strings.Contains(err.Error(), "hunter2") {
			return fmt.Errorf("readiness says %w", err)
		}
		return nil
	})
}

// The API server is needed to begin, and then not.
func TestAPIServerGone(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	l.secrets.with(func() { l.secrets.down = true })
	i := l.start()
	eventually(t, func() error {
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "the API server is down") {
			return fmt.Errorf("readiness says %w", err)
		}
		return nil
	})
	l.secrets.with(func() { l.secrets.down = false })
	l.ready(i)
	l.secrets.with(func() { l.secrets.down = true })
	l.breakConnections(true)
	eventually(t, notReady(i))
	l.breakConnections(false)
	l.ready(i)
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
}

// A CA that is gone is noticed without callers, who are told at once; when it is back, so are we.
func TestServerGone(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	if _, err := l.ask(i, time.Hour, web); err == nil && i.Ready() != nil {
		t.Error("issued before there was an account")
	}
	l.ready(i)
	for range 2 {
		l.breakConnections(true)
		eventually(t, notReady(i))
		began := time.Now()
		for range 100 {
			if _, err := l.ask(i, time.Hour, web); kindOf(t, err) != fault.Unavailable {
				t.Errorf("got %v", err)
			}
		}
		if took := time.Since(began); took > 5*time.Second { // each would wait for ten
			t.Errorf("100 callers were told after %s", took)
		}
		l.breakConnections(false)
		l.ready(i)
		if _, err := l.ask(i, time.Hour, web); err != nil {
			t.Error(err)
		}
	}
}

// A CA that fails callers is left alone after a few of them.
func TestServerBroken(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start(func(c *acme.Config) { c.Ping = time.Hour })
	l.ready(i)
	l.change(func() {
		l.before = func(w http.ResponseWriter, r *http.Request) bool {
			refuse(w, http.StatusInternalServerError, "serverInternal", "no", 0)
			return true
		}
	})
	eventually(t, func() error {
		if _, err := l.ask(i, time.Hour, web); kindOf(t, err) != fault.Unavailable {
			t.Errorf("got %v", err)
		}
		return notReady(i)()
	})
	l.change(func() { l.before = nil })
	l.ready(i)
}

// A CA that asks for quiet gets it.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	clock := &acmetest.Clock{}
	i := l.start(func(c *acme.Config) { c.Now = clock.Now })
	l.ready(i)
	l.change(func() {
		l.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/new-order") {
				return false
			}
			refuse(w, http.StatusServiceUnavailable, "serverInternal", "busy", 20)
			return true
		}
	})
	for range 10 {
		if _, err := l.ask(i, time.Hour, web); kindOf(t, err) != fault.RateLimited {
			t.Errorf("got %v", err)
		}
	}
	if n := l.seen("/new-order"); n != 1 {
		t.Errorf("the CA was asked %d times", n)
	}
	if err := i.Ready(); err != nil {
		t.Error(err)
	}
	l.change(func() { l.before = nil })
	clock.Add(21 * time.Second)
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
	// A limit of one name is not one of all.
	l.change(func() {
		l.before = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/new-order") {
				refuse(w, http.StatusTooManyRequests, "rateLimited", "too many of this name", 3600)
				return true
			}
			return false
		}
	})
	if _, err := l.ask(i, time.Hour, web); kindOf(t, err) != fault.RateLimited {
		t.Errorf("got %v", err)
	}
	l.change(func() { l.before = nil })
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := acme.New(acme.Config{})
	for _, name := range []string{"TLSRoots", "Binding", "Secret", "Secrets", "Roots", "Own", "Now", "Random", "Logger", "Registerer", "https URL"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("nothing is said of %s: %v", name, err)
		}
	}
	for _, text := range []string{"http://a/dir", "a", "https://", "https://u:p@a/dir", "https://a/dir#x"} {
		if acme.CheckDirectoryURL(text) == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

// Starting and stopping at any moment ends everything.
func TestStartStop(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	for n := range 20 {
		stop := l.startStopped(time.Duration(n) * time.Millisecond)
		if err := <-stop; err != nil {
			t.Error(err)
		}
	}
	i := l.start()
	l.ready(i)
	if n := l.accounts(); n != 1 {
		t.Errorf("%d accounts", n)
	}
}

func notReady(i *replica) func() error {
	return func() error {
		if i.Ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	}
}

// accountClient is the account of the Secret.
func (l *lab) accountClient() *acmeclient.Client {
	l.t.Helper()
	data := l.secrets.data()
	block, _ := pem.Decode(data["tls.key"])
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		l.t.Fatal(err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		l.t.Fatalf("key of type %T", key)
	}
	client, err := acmeclient.New(acmeclient.Config{DirectoryURL: l.URL + "/acme/directory", HTTPClient: l.Client, Key: signer, Random: rand.Reader})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := client.UseAccount(string(data["account-url"])); err != nil {
		l.t.Fatal(err)
	}
	return client
}
