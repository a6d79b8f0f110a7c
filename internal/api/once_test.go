package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// withKey sends a request that has a key.
func withKey(t *testing.T, w *apitest.World, role pki.Role, key, path, body string) apitest.Answer {
	t.Helper()
	return w.Do(t, http.MethodPost, path, w.Tokens[role], strings.NewReader(body), http.Header{"Idempotency-Key": {key}})
}

func certificateBody(t *testing.T) string {
	t.Helper()
	raw, err := json.Marshal(apiv1.CreateCertificate{Profile: "ci", CSR: csrPEM(t, testca.Request{URIs: []string{testca.SPIFFE}})})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestRepeatsAnswers(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	const body = `{"profile":"istio","name":"east"}`
	first := withKey(t, w, pki.RoleAdmin, `"one"`, "/credentials", body)
	if first.Status != http.StatusCreated || first.Header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("first: %d %s", first.Status, first.Body)
	}
	for _, key := range []string{`"one"`, "one"} {
		again := withKey(t, w, pki.RoleAdmin, key, "/credentials", body)
		if again.Status != http.StatusCreated || !bytes.Equal(again.Body, first.Body) || again.Header.Get("Idempotency-Replayed") != "true" ||
			again.Header.Get("Content-Type") != first.Header.Get("Content-Type") {
			t.Errorf("key %s again: %d %v %s", key, again.Status, again.Header, again.Body)
		}
	}
	if n := len(w.Events(t, audit.CredentialCreate)); n != 1 {
		t.Errorf("%d credentials were made, want 1", n)
	}
	// A key is its caller's, and lives for a day.
	w.Clock.Advance(24 * time.Hour)
	if err := w.Catalog.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := withKey(t, w, pki.RoleAdmin, "one", "/credentials", body); after.Status != http.StatusConflict {
		t.Errorf("after a day: %d %s", after.Status, after.Body)
	}
}

func TestKeysAreTheirCallers(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	body := certificateBody(t)
	admin := withKey(t, w, pki.RoleAdmin, "k", "/certificates", body)
	requester := withKey(t, w, pki.RoleRequester, "k", "/certificates", body)
	if admin.Status != http.StatusCreated || requester.Status != http.StatusCreated || bytes.Equal(admin.Body, requester.Body) {
		t.Errorf("two callers with one key: %d and %d, the same: %t", admin.Status, requester.Status, bytes.Equal(admin.Body, requester.Body))
	}
}

func TestRefusesKeys(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	withKey(t, w, pki.RoleAdmin, "used", "/profiles/istio/clone", `{"name":"copy"}`)
	cases := map[string]struct{ key, path, body string }{
		"refuses/empty":      {``, "/tokens", `{"name":"x","role":"admin"}`},
		"refuses/quotes":     {`""`, "/tokens", `{"name":"x","role":"admin"}`},
		"refuses/long":       {strings.Repeat("k", 256), "/tokens", `{"name":"x","role":"admin"}`},
		"refuses/not-ascii":  {"schlüssel", "/tokens", `{"name":"x","role":"admin"}`},
		"refuses/other-body": {"used", "/profiles/istio/clone", `{"name":"other"}`},
		"refuses/other-path": {"used", "/profiles/web/clone", `{"name":"copy"}`},
	}
	for name, c := range cases {
		answer := withKey(t, w, pki.RoleAdmin, c.key, c.path, c.body)
		if answer.Status != http.StatusBadRequest || len(answer.Problem.Errors) != 1 || answer.Problem.Errors[0].Parameter != "Idempotency-Key" {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
}

// A refusal has made nothing: the mended request may have the same key.
func TestRefusalsAreNotKept(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/profiles/nope/clone", `{"name":"copy"}`, http.StatusNotFound},
		{"/profiles/istio/clone", `{"name":`, http.StatusBadRequest},
		{"/profiles/istio/clone", `{"name":"` + strings.Repeat("x", 300<<10) + `"}`, http.StatusRequestEntityTooLarge},
		{"/profiles/istio/clone", `{"name":"copy"}`, http.StatusCreated},
	} {
		if answer := withKey(t, w, pki.RoleAdmin, "same", c.path, c.body); answer.Status != c.status {
			t.Errorf("POST %s: %d, want %d: %s", c.path, answer.Status, c.status, answer.Body)
		}
	}
}

// TestSecretsAreNotKeptReadable looks for a secret in the row that its answer is repeated from.
func TestSecretsAreNotKeptReadable(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	answer := withKey(t, w, pki.RoleAdmin, "secret", "/tokens", `{"name":"robot","role":"admin"}`)
	var made apiv1.NewToken
	if err := json.Unmarshal(answer.Body, &made); err != nil || made.Secret == "" {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	files, err := filepath.Glob(filepath.Join(w.Dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files of the database: %v, %v", files, err)
	}
	for _, file := range files {
		if raw, err := os.ReadFile(file); err != nil || bytes.Contains(raw, []byte(made.Secret)) {
			t.Errorf("the secret is in %s, or: %v", file, err)
		}
	}
	again := withKey(t, w, pki.RoleAdmin, "secret", "/tokens", `{"name":"robot","role":"admin"}`)
	if !bytes.Equal(again.Body, answer.Body) {
		t.Errorf("again: %d %s", again.Status, again.Body)
	}
}

// TestOneOfManyIsServed sends one request many times at once, as impatient clients do.
func TestOneOfManyIsServed(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	body := certificateBody(t)
	const many = 8
	answers := make([]apitest.Answer, many)
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() { answers[i] = withKey(t, w, pki.RoleRequester, "race", "/certificates", body) })
	}
	group.Wait()
	serials := map[string]bool{}
	for _, answer := range answers {
		switch answer.Status {
		case http.StatusCreated:
			var made apiv1.NewCertificate
			if err := json.Unmarshal(answer.Body, &made); err != nil {
				t.Fatal(err)
			}
			serials[made.Certificate.Serial] = true
		case http.StatusConflict:
			if answer.Header.Get("Retry-After") != "1" {
				t.Errorf("busy: headers %v", answer.Header)
			}
		default:
			t.Errorf("status %d: %s", answer.Status, answer.Body)
		}
	}
	if len(serials) != 1 {
		t.Errorf("serials %v, want one", serials)
	}
}
