// Command oidcprovider is an OpenID Connect provider that people sign in at with a password: ZITADEL's library, which is
// certified by the OpenID Foundation, with the storage and the sign-in page of its example server, as they are. What is
// added is TLS, the people, and a claim with their groups, which the example's storage does not know.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "oidcprovider:", err)
		os.Exit(1)
	}
}

// settings are the provider's only input.
type settings struct {
	Issuer      string   `json:"issuer"`
	Listen      string   `json:"listen"`
	Certificate string   `json:"certificate"` // files
	Key         string   `json:"key"`
	Client      string   `json:"client"`
	Secret      string   `json:"secret"`
	Redirects   []string `json:"redirects"`
	InIDToken   bool     `json:"inIdToken"` // everything about a person is in the ID token; otherwise at the userinfo endpoint only
	People      []person `json:"people"`
}

type person struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Groups   []string `json:"groups"`
}

func run() error {
	file := flag.String("config", "", "settings as JSON")
	flag.Parse()
	raw, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	client := storage.WebClient(s.Client, s.Secret, s.Redirects...)
	kept := &people{
		Storage: storage.NewStorageWithClients(directory(s.People), map[string]*storage.Client{s.Client: client}), all: s.People, inIDToken: s.InIDToken,
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	server := &http.Server{
		Addr: s.Listen, Handler: exampleop.SetupServer(s.Issuer, kept, logger, false), ReadHeaderTimeout: 10 * time.Second,
	}
	return server.ListenAndServeTLS(s.Certificate, s.Key)
}

// directory is who can sign in.
type directory []person

// GetUserByID is part of storage.UserStore.
func (d directory) GetUserByID(id string) *storage.User {
	return d.find(func(p person) bool { return p.ID == id })
}

// GetUserByUsername is part of storage.UserStore.
func (d directory) GetUserByUsername(name string) *storage.User {
	return d.find(func(p person) bool { return p.Name == name })
}

// ExampleClientID is part of storage.UserStore.
func (d directory) ExampleClientID() string { return storage.ServiceUserID }

func (d directory) find(is func(person) bool) *storage.User {
	for _, p := range d {
		if is(p) {
			return &storage.User{ID: p.ID, Username: p.Name, Password: p.Password, Email: p.Name + "@example.com", EmailVerified: true}
		}
	}
	return nil
}

// people is the example's storage, with groups.
type people struct {
	*storage.Storage

	all       []person
	inIDToken bool
}

// SetUserinfoFromRequest fills an ID token. Without the scope profile, which the library keeps back for clients that do not
// want claims there, people have no groups.
func (s *people) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string) error {
	if err := s.Storage.SetUserinfoFromRequest(ctx, info, request, scopes); err != nil {
		return err
	}
	if slices.Contains(scopes, oidc.ScopeProfile) {
		s.addGroups(info, request.GetSubject())
	}
	return nil
}

// SetUserinfoFromToken fills the answer of the userinfo endpoint.
func (s *people) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	if err := s.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin); err != nil {
		return err
	}
	s.addGroups(info, subject)
	return nil
}

func (s *people) addGroups(info *oidc.UserInfo, subject string) {
	for _, p := range s.all {
		if p.ID == subject && len(p.Groups) > 0 {
			info.AppendClaims("groups", p.Groups)
		}
	}
}

// GetClientByClientID says where the claims of people go.
func (s *people) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	client, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil || !s.inIDToken {
		return client, err
	}
	return asserting{client}, nil
}

type asserting struct{ op.Client }

// IDTokenUserinfoClaimsAssertion is part of op.Client.
func (asserting) IDTokenUserinfoClaimsAssertion() bool { return true }
