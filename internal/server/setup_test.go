package server_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/server"
)

// setUp makes what `certloom dev` makes, with the given randomness, and ends again as if killed: nothing is tidied up
// but the lock on the folder.
func setUp(t *testing.T, dir string, random io.Reader, check func(*server.Parts, *server.Connection)) error {
	t.Helper()
	settings, err := server.DevSettings(server.DevOptions{Data: dir, Listen: "127.0.0.1:8443", HTTP01Port: 5002, TLSALPN01Port: 5001, LogLevel: "warn"})
	if err != nil {
		t.Fatal(err)
	}
	settings.Listen.HTTPS, settings.Listen.Agent, settings.Listen.Health = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	listeners, parts, err := server.StartDev(t.Context(), server.Config{
		Settings: settings, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Random: random,
	}, random)
	if err != nil {
		return err
	}
	defer listeners.Close()
	defer func() {
		if err := parts.Close(); err != nil {
			t.Error(err)
		}
	}()
	connection, err := parts.SetUpDev(t.Context())
	if err == nil {
		check(parts, connection)
	}
	return err
}

// ending is randomness that ends after some reads. Each step of a set-up reads some, so it ends the set-up between
// any two of them.
type ending struct{ left atomic.Int64 }

func (e *ending) Read(p []byte) (int, error) {
	if e.left.Add(-1) < 0 {
		return 0, errors.New("interrupted")
	}
	return rand.Read(p)
}

// checkSetUp looks whether everything is there that was promised, and works.
func checkSetUp(t *testing.T, dir string) func(*server.Parts, *server.Connection) {
	t.Helper()
	return func(parts *server.Parts, c *server.Connection) {
		t.Helper()
		var written server.Connection
		raw, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		if err == nil {
			err = json.Unmarshal(raw, &written)
		}
		if err != nil || written.APIToken != c.APIToken || written.AdminPassword != c.AdminPassword || len(written.ACME) != 2 {
			t.Errorf("dev.json has %d bytes, error %v", len(raw), err)
		}
		if principal, err := parts.Auth.Token(t.Context(), c.APIToken, audit.By{}); err != nil || principal.Role != pki.RoleAdmin {
			t.Errorf("API token: %v, %v", principal, err)
		}
		if _, _, err := parts.Auth.Login(t.Context(), c.AdminUser, c.AdminPassword, "", audit.By{}); err != nil {
			t.Errorf("login: %v", err)
		}
		snapshot := parts.Catalog.Snapshot()
		credentials := maps.Clone(c.ACME)
		credentials["agent"] = server.ACMECredential{KeyID: c.Agent.KeyID, HMACKey: c.Agent.HMACKey}
		for name, credential := range credentials {
			known, ok := snapshot.Credential(pki.CredentialID(credential.KeyID))
			if !ok || !known.Usable(time.Now()) {
				t.Errorf("credential of profile %s: %+v", name, known)
				continue
			}
			key, err := parts.Catalog.CredentialKey(t.Context(), known)
			if err != nil || base64.RawURLEncoding.EncodeToString(key) != credential.HMACKey {
				t.Errorf("key of the credential of profile %s: %v", name, err)
			}
		}
		if len(snapshot.CAs()) != 2 || len(snapshot.Profiles()) != 5 {
			t.Errorf("%d CAs, %d profiles", len(snapshot.CAs()), len(snapshot.Profiles()))
		}
		checkModes(t, dir)
	}
}

// checkModes looks whether nobody else can read what is secret.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		want := os.FileMode(0o600)
		if entry.Name() == "root.pem" {
			want = 0o644
		}
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", entry.Name(), info.Mode().Perm(), want)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
}

// A set-up that was interrupted anywhere goes on where it stopped.
func TestSetUpInterrupted(t *testing.T) {
	t.Parallel()
	interrupted := 0
	for reads := int64(0); ; reads++ {
		dir := filepath.Join(t.TempDir(), "data")
		random := new(ending)
		random.left.Store(reads)
		err := setUp(t, dir, random, func(*server.Parts, *server.Connection) {})
		if err == nil {
			break
		}
		interrupted++
		if err := setUp(t, dir, rand.Reader, checkSetUp(t, dir)); err != nil {
			t.Fatalf("after an interruption at read %d: %v", reads, err)
		}
		if t.Failed() {
			t.Fatalf("after an interruption at read %d", reads)
		}
	}
	if interrupted < 20 {
		t.Errorf("interrupted at %d places only", interrupted)
	}
}

// Killed when the token was stored and its file was not written yet, a set-up makes another one.
func TestSetUpInterruptedBeforeTheLastFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if err := setUp(t, dir, rand.Reader, checkSetUp(t, dir)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "dev.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c server.Connection
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	before := bytes.Replace(raw, []byte(c.APIToken), nil, 1)
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setUp(t, dir, rand.Reader, checkSetUp(t, dir)); err != nil {
		t.Fatal(err)
	}
}

// Who revokes the credential of the set-up gets another one at the next start.
func TestSetUpAfterItsCredentialWasRevoked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	var first server.Connection
	err := setUp(t, dir, rand.Reader, func(parts *server.Parts, c *server.Connection) {
		first = *c
		if _, err := parts.Catalog.RevokeCredential(t.Context(), pki.CredentialID(c.ACME["istio"].KeyID), audit.By{}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var again server.Connection
		err = setUp(t, dir, rand.Reader, func(parts *server.Parts, c *server.Connection) {
			checkSetUp(t, dir)(parts, c)
			again = *c
		})
		if err != nil {
			t.Fatal(err)
		}
		if again.ACME["istio"] == first.ACME["istio"] || again.ACME["server"] != first.ACME["server"] {
			t.Error("only the revoked credential is to be replaced")
		}
	}
}

// What the server's own certificate is issued with can be suspended; the next start says how to get out of that, since
// activating it needs a server that runs.
func TestStartWithoutOwnCertificate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	err := setUp(t, dir, rand.Reader, func(parts *server.Parts, _ *server.Connection) {
		own, ok := parts.Catalog.Snapshot().ProfileByName("certloom")
		if !ok {
			t.Fatal("no profile")
		}
		if _, err := parts.Catalog.SetProfileState(t.Context(), own.ID, pki.Suspended, audit.By{}); err != nil {
			t.Fatal(err)
		}
		_, err := server.New(t.Context(), parts, &server.Listeners{})
		if err == nil || !strings.Contains(fault.From(err).Hint, "tls.certificateFile") {
			t.Errorf("started: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
