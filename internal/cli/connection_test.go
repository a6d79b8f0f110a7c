package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

func TestLoginIsFoundByOtherCommands(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	root := d.env["CERTLOOM_CA_FILE"]
	d.env = map[string]string{"HOME": d.dir}
	if r := d.run(t, "ca", "list"); r.code != 1 || !strings.Contains(r.stderr, "certloom login") {
		t.Errorf("before the login: %+v", r)
	}
	d.stdin = strings.NewReader(w.Password + "\n")
	r := d.run(t, "login", "--server", w.Server.URL, "--user", "admin", "--ca-file", root)
	if r.code != 0 || !strings.Contains(r.stdout, "as admin; the token expires in 12h") || strings.Contains(r.stdout+r.stderr, w.Password) {
		t.Fatalf("login: %+v", r)
	}
	file := filepath.Join(d.dir, ".config", "certloom", "login.json")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("login file %v, %v", info, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(raw), w.Password) {
		t.Errorf("login file: %v", err)
	}
	if r := d.run(t, "ca", "list"); r.code != 0 || !strings.Contains(r.stdout, "issuing") {
		t.Errorf("after the login: %+v", r)
	}
	w.Clock.Advance(13 * time.Hour)
	if r := d.run(t, "ca", "list"); r.code != 1 || !strings.Contains(r.stderr, "expired") || !strings.Contains(r.stderr, "hint: sign in again (certloom login)") {
		t.Errorf("with an old login: %+v", r)
	}
}

func TestRefusesLogins(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	if r := d.run(t, "login", "--user", "admin"); r.code != 2 || !strings.Contains(r.stderr, "no answer on standard input") {
		t.Errorf("without a password: %+v", r)
	}
	if r := d.run(t, "login", "--user", "admin", "--password-file", d.file(t, "password", "wrong wrong wrong")); r.code != 1 || !strings.Contains(r.stderr, "password is wrong") {
		t.Errorf("with a wrong password: %+v", r)
	}
	if r := d.run(t, "login"); r.code != 2 || !strings.Contains(r.stderr, "--user missing") {
		t.Errorf("without a user: %+v", r)
	}
	if _, err := os.Stat(filepath.Join(d.dir, ".config")); err == nil {
		t.Error("a refused login has left something")
	}
	if r := d.run(t, "login", "--user", "admin", "--password-file", d.file(t, "password", w.Password+"\n")); r.code != 0 {
		t.Errorf("with the password in a file: %+v", r)
	}
}

// TestLoginWithCode signs a user with a second factor in.
func TestLoginWithCode(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	by := audit.By{Client: pki.Client{Address: "192.0.2.1"}}
	made, err := w.Auth.BeginSecondFactor(t.Context(), "admin", w.Password, by)
	if err != nil {
		t.Fatal(err)
	}
	code := func() string {
		now, err := totp.GenerateCode(made.Secret, w.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	recovery, err := w.Auth.ConfirmSecondFactor(t.Context(), "admin", made.Ticket, code(), by)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute)
	file := d.file(t, "password", w.Password)
	if r := d.run(t, "login", "--user", "admin", "--password-file", file); r.code == 0 || !strings.Contains(r.stderr, "second factor") {
		t.Errorf("without a code: %+v", r)
	}
	d.stdin = strings.NewReader(w.Password + "\n" + code() + "\n")
	if r := d.run(t, "login", "--user", "admin"); r.code != 0 {
		t.Errorf("with answers on standard input: %+v", r)
	}
	d.stdin = strings.NewReader("")
	if r := d.run(t, "login", "--user", "admin", "--password-file", file, "--code", recovery[0]); r.code != 0 {
		t.Errorf("with a recovery code: %+v", r)
	}
	if r := d.run(t, "login", "--user", "admin", "--password-file", file, "--code", recovery[0]); r.code != 1 || !strings.Contains(r.stderr, "used before") {
		t.Errorf("with the same again: %+v", r)
	}
}

// TestDevConnection reads what certloom dev writes, where it writes it.
func TestDevConnection(t *testing.T) { // changes the working directory, so not parallel
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	d.env = map[string]string{"HOME": d.dir}
	t.Chdir(d.dir)
	if err := os.Mkdir("certloom-data", 0o700); err != nil {
		t.Fatal(err)
	}
	save := func(name string, connection map[string]any) {
		raw, err := json.Marshal(connection)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("certloom-data/root.pem", w.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	connection := map[string]any{
		"url": w.Server.URL, "apiToken": w.Tokens[pki.RoleAdmin], "adminUser": "admin", "acme": map[string]any{"istio": map[string]any{}},
	}
	for name, caFile := range map[string]string{
		"absolute":           filepath.Join(d.dir, "certloom-data", "root.pem"),
		"relative-to-here":   "certloom-data/root.pem",
		"relative-to-folder": "root.pem",
		"moved":              "other-data/root.pem",
	} {
		connection["caFile"] = caFile
		save("certloom-data/dev.json", connection)
		if r := d.run(t, "ca", "list"); r.code != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// What lies here counts more than a login elsewhere.
	save(filepath.Join(d.dir, ".config", "certloom", "login.json"), map[string]any{"url": "https://127.0.0.1:1", "apiToken": "x"})
	if r := d.run(t, "doctor"); r.code != 0 || !strings.Contains(r.stdout, "from certloom-data/dev.json") {
		t.Errorf("with a login as well: %+v", r)
	}
	if err := os.WriteFile("certloom-data/dev.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := d.run(t, "ca", "list"); r.code != 1 || !strings.Contains(r.stderr, "certloom-data/dev.json is no connection") {
		t.Errorf("with a broken file: %+v", r)
	}
}

// TestTokensGoWhereTheyBelong names another server than the one that a token was saved for.
func TestTokensGoWhereTheyBelong(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	stranger := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(stranger.Close)
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	root := d.env["CERTLOOM_CA_FILE"]
	d.env = map[string]string{"HOME": d.dir}
	d.stdin = strings.NewReader(w.Password)
	if r := d.run(t, "login", "--server", w.Server.URL, "--user", "admin", "--ca-file", root); r.code != 0 {
		t.Fatalf("login: %+v", r)
	}
	strangers := d.file(t, "stranger.pem", certPEM(stranger.Certificate().Raw))
	r := d.run(t, "ca", "list", "--server", stranger.URL, "--ca-file", strangers)
	if r.code != 1 || !strings.Contains(r.stderr, "no token is known for "+stranger.URL) {
		t.Errorf("%+v", r)
	}
	r = d.run(t, "doctor", "--server", stranger.URL, "--ca-file", strangers)
	if r.code != 1 || !strings.Contains(r.stdout, "answered 404") {
		t.Errorf("%+v", r)
	}
	close(got)
	for header := range got {
		if header != "" {
			t.Errorf("a stranger was sent %q", header)
		}
	}
}

// TestForeignServers answers with what is no API of ours.
func TestForeignServers(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"refuses/html": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, "502 Bad Gateway without a problem document"},
		"refuses/redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, "302 Found"},
		"refuses/no-json": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }, "not as it should be"},
		"refuses/steering": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"detail":"no\u001b[2J","hint":"\u001b]0;title\u0007go away"}`))
		}, "error: no[2J\nhint: ]0;titlego away\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(c.answer)
			t.Cleanup(server.Close)
			d := newDesk(t, w, pki.RoleAdmin)
			d.env["CERTLOOM_SERVER"] = server.URL
			d.env["CERTLOOM_CA_FILE"] = d.file(t, "foreign.pem", certPEM(server.Certificate().Raw))
			r := d.run(t, "ca", "list")
			if r.code != 1 || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestBrokenExport ends a stream in the middle.
func TestBrokenExport(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("[\n{},\n{}"))
		w.(http.Flusher).Flush() //nolint:forcetypeassert // it is one
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	d := newDesk(t, apitest.New(t), pki.RoleAdmin)
	d.env["CERTLOOM_SERVER"] = server.URL
	d.env["CERTLOOM_CA_FILE"] = d.file(t, "foreign.pem", certPEM(server.Certificate().Raw))
	out := filepath.Join(d.dir, "all.json")
	r := d.run(t, "certificate", "export", "--out", out)
	if r.code != 1 || !strings.Contains(r.stderr, "broke off after 2 certificates") {
		t.Errorf("%+v", r)
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, "*all*")); err != nil || len(left) != 0 {
		t.Errorf("half a file is there: %v, %v", left, err)
	}
}
