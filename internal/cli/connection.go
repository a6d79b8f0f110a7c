package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// connection is how to reach a server, and where that was found.
type connection struct {
	server string
	token  string
	roots  []byte // PEM; nil: the system's roots
	source string // for people
	caFile string // that the roots came from, for people
}

// savedConnection is the file that `certloom login` writes, and the part of dev.json that commands need.
type savedConnection struct {
	URL      string `json:"url"`
	APIToken string `json:"apiToken"`
	CAFile   string `json:"caFile,omitempty"` // dev.json has a file
	CAPEM    string `json:"caPem,omitempty"`  // login keeps the certificates: files move
	User     string `json:"user,omitempty"`
	Expires  string `json:"expiresAt,omitempty"`
}

// option returns a flag's value, or that of its environment variable.
func (a *app) option(flag, variable string) string {
	if flag != "" || a.Env == nil {
		return flag
	}
	return a.Env(variable)
}

// connect finds out which server is meant. A saved token is sent to the server that it was saved for, and to no other:
// a --server that was mistyped, or that somebody else told, must not get it.
func (a *app) connect() (*connection, error) {
	server := a.option(a.server, "CERTLOOM_SERVER")
	saved, file, err := a.saved(server)
	if err != nil {
		return nil, err
	}
	c := &connection{server: server, source: "--server"}
	if a.server == "" && server != "" {
		c.source = "CERTLOOM_SERVER"
	}
	if saved != nil {
		c.token, c.source = saved.APIToken, file
		if c.server == "" {
			c.server = saved.URL
		}
		if err := c.savedRoots(saved, file); err != nil {
			return nil, err
		}
	}
	if c.server == "" {
		return nil, WithHint(errors.New("no server is known"),
			"start one here (certloom dev), sign in to one (certloom login --server URL --user NAME), or name one (--server, CERTLOOM_SERVER)")
	}
	return c, a.readFiles(c)
}

// readFiles reads the files that flags and environment name.
func (a *app) readFiles(c *connection) error {
	if file := a.option(a.caFile, "CERTLOOM_CA_FILE"); file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return UsageError(fmt.Errorf("--ca-file: %w", err))
		}
		c.roots, c.caFile = raw, file
	}
	if file := a.option(a.tokenFile, "CERTLOOM_TOKEN_FILE"); file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return UsageError(fmt.Errorf("--token-file: %w", err))
		}
		if c.token = strings.TrimSpace(string(raw)); c.token == "" {
			return UsageError(fmt.Errorf("--token-file: %s is empty", file))
		}
	}
	return nil
}

// savedRoots takes the roots of a saved connection.
func (c *connection) savedRoots(saved *savedConnection, file string) error {
	switch {
	case saved.CAPEM != "":
		c.roots, c.caFile = []byte(saved.CAPEM), file
	case saved.CAFile != "":
		name := saved.CAFile
		if !filepath.IsAbs(name) {
			if _, err := os.Stat(name); err != nil {
				name = filepath.Join(filepath.Dir(file), filepath.Base(name))
			}
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("caFile in %s: %w", file, err)
		}
		c.roots, c.caFile = raw, name
	}
	return nil
}

// saved returns the connection that `certloom dev` left here or `certloom login` has saved, if it is one to the given
// server; "" is any. The nearest comes first: somebody who works in the folder of a development server means it.
func (a *app) saved(server string) (*savedConnection, string, error) {
	files := []string{a.devFile}
	if file, err := a.loginFile(); err == nil {
		files = append(files, file)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read connection: %w", err)
		}
		var saved savedConnection
		if err := json.Unmarshal(raw, &saved); err != nil || saved.URL == "" {
			return nil, "", fmt.Errorf("%s is no connection: %w", file, errors.Join(err, errors.New("it must be JSON with url, apiToken and caFile")))
		}
		if server == "" || strings.TrimSuffix(server, "/") == strings.TrimSuffix(saved.URL, "/") {
			return &saved, file, nil
		}
	}
	return nil, "", nil
}

// loginFile is where `certloom login` saves the connection (XDG base directory specification).
func (a *app) loginFile() (string, error) {
	if a.Env == nil {
		return "", errors.New("there is no environment")
	}
	if dir := a.Env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "certloom", "login.json"), nil
	}
	if home := a.Env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "certloom", "login.json"), nil
	}
	return "", errors.New("neither XDG_CONFIG_HOME nor HOME is set to a folder")
}

// httpClient trusts the connection's roots and nothing else, if it has any.
func (a *app) httpClient(c *connection) (*http.Client, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.roots != nil {
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(c.roots) {
			return nil, UsageError(fmt.Errorf("--ca-file: %s has no PEM certificate", c.caFile))
		}
	}
	return &http.Client{
		// The API redirects nowhere; following would take the token to whoever answers.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			TLSClientConfig:       secure,
			TLSHandshakeTimeout:   a.timeout,
			ResponseHeaderTimeout: a.timeout,
			ForceAttemptHTTP2:     true,
		},
	}, nil
}

// dial returns the client of a connection.
func (a *app) dial(c *connection) (*apiv1.Client, error) {
	client, err := a.httpClient(c)
	if err != nil {
		return nil, err
	}
	api, err := apiv1.NewClient(apiv1.ClientConfig{
		Server: c.server, Token: c.token, HTTP: client, UserAgent: "certloom/" + a.Version,
	})
	return api, UsageError(err)
}

// api returns the client of the server that is meant.
func (a *app) api() (*apiv1.Client, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	api, err := a.dial(c) // first, since a server that is no https address is not helped by a token
	if err != nil {
		return nil, err
	}
	if c.token == "" {
		return nil, WithHint(fmt.Errorf("no token is known for %s", c.server),
			"sign in (certloom login --server %s --user NAME), or name a token (--token-file, CERTLOOM_TOKEN_FILE)", c.server)
	}
	return api, nil
}
