package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is a log that may be written to by many.
type sink struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *sink) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.all.Bytes())
}

// call makes a request of the REST API and returns the answer's status and body.
func (d *dev) call(t *testing.T, method, path, token, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, d.connection.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := d.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

// spellings are the forms in which a secret might have been written down.
func spellings(secret []byte) [][]byte {
	forms := [][]byte{
		secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret))),
		[]byte(base64.RawStdEncoding.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret)),
	}
	return forms
}

// TestSecretsStayInside runs everything that has to do with secrets, with the log at its most talkative, and looks for
// them in what was written: the database and the rest of the data folder, the log, the metrics, and answers.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), new(sink)
	d := startLogging(t, dir, freeListen(t), 2, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	c := d.connection
	secrets := map[string][]byte{"password": []byte(c.AdminPassword), "API token": []byte(c.APIToken)}
	for profile, credential := range c.ACME {
		key, err := base64.RawURLEncoding.DecodeString(credential.HMACKey)
		if err != nil || len(key) != 32 {
			t.Fatal(err)
		}
		secrets["HMAC key of "+profile] = key
	}
	master, err := os.ReadFile(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	if secrets["master key"], err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(master))); err != nil {
		t.Fatal(err)
	}

	status, body := d.call(t, http.MethodPost, "/api/v1/login", "", `{"user":"admin","password":"`+c.AdminPassword+`"}`)
	var login struct{ Secret string }
	if err := json.Unmarshal([]byte(body), &login); err != nil || login.Secret == "" {
		t.Fatalf("login: %d %s", status, body)
	}
	secrets["token of a login"] = []byte(login.Secret)
	var answers bytes.Buffer
	for _, path := range []string{"/credentials", "/tokens", "/events", "/profiles", "/cas", "/status"} {
		status, body := d.call(t, http.MethodGet, "/api/v1"+path, login.Secret, "")
		if status != http.StatusOK && status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
		answers.WriteString(body)
	}
	// What is refused is the likeliest to be quoted.
	for _, mistake := range []struct{ path, token, body string }{
		{"/login", "", `{"user":"` + c.AdminPassword + `x","password":"` + c.AdminPassword + `"}`},
		{"/login", "", `{"user":"admin","password":"` + c.AdminPassword + `","more":1}`},
		{"/tokens", c.APIToken + "x", `{}`},
		{"/tokens", "x" + c.APIToken, `{}`},
	} {
		if status, _ := d.call(t, http.MethodPost, "/api/v1"+mistake.path, mistake.token, mistake.body); status < 400 {
			t.Errorf("%s with a mistake: %d", mistake.path, status)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, _, metrics := d.get(t, d.health+"/metrics")
		if strings.Contains(metrics, `certloom_issuance_total{outcome="issued",profile="istio"} 2`+"\n") {
			answers.WriteString(metrics)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the workloads got no certificates")
		}
	}
	d.stop()

	places := map[string][]byte{"the log": log.bytes(), "answers and metrics": answers.Bytes()}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.Name() == "dev.json" || file.Name() == "master.key" {
			continue // are there to hold them
		}
		if places[file.Name()], err = os.ReadFile(filepath.Join(dir, file.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if len(places["certloom.db"]) == 0 || len(places["the log"]) == 0 {
		t.Fatal("nothing to look at")
	}
	// A private key on P-256 in DER: ECPrivateKey, version 1, 32 octets (RFC 5915 section 3).
	secrets["a CA's private key"] = []byte{0x02, 0x01, 0x01, 0x04, 0x20}
	for place, content := range places {
		for name, secret := range secrets {
			for _, form := range spellings(secret) {
				if bytes.Contains(content, form) && (len(form) > 8 || place == "certloom.db") {
					t.Errorf("%s is in %s", name, place)
				}
			}
		}
	}
}
