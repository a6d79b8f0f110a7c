package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// Names of what a set-up makes.
const (
	rootName    = "root"
	issuingName = "issuing"
	adminName   = "admin"
)

// Connection is the file that a set-up writes, mode 0600: how to reach the server and who may do everything there.
// The CLI reads it; so do scripts.
type Connection struct {
	URL           string                    `json:"url"`
	AdminUser     string                    `json:"adminUser"`
	AdminPassword string                    `json:"adminPassword"`
	APIToken      string                    `json:"apiToken"`
	CAFile        string                    `json:"caFile"`   // what to verify the server's certificate with
	RootFile      string                    `json:"rootFile"` // the root of the certificates that are issued
	ACME          map[string]ACMECredential `json:"acme,omitempty"`
	Agent         *AgentCredential          `json:"agent,omitempty"`
}

// ACMECredential is what an ACME client needs to register with a profile.
type ACMECredential struct {
	DirectoryURL string `json:"directoryUrl"`
	KeyID        string `json:"keyId"`
	HMACKey      string `json:"hmacKey"` // 32 bytes in unpadded base64url
}

// AgentCredential is what certloom-agent needs to enrol.
type AgentCredential struct {
	URL     string `json:"url"`
	KeyID   string `json:"keyId"`
	HMACKey string `json:"hmacKey"` // 32 bytes in unpadded base64url
}

// setupActor is who set-up changes are made by.
func setupActor() audit.By { return audit.By{Actor: audit.Actor{Kind: audit.System, Name: "set-up"}} }

// setupCAs makes a root and an issuing CA unless they are there, and writes the root's certificate to a file.
func (p *Parts) setupCAs(ctx context.Context, organization, rootFile string) error {
	if _, ok := p.Catalog.Snapshot().CAByName(rootName); !ok {
		_, err := p.Authority.CreateRoot(ctx, issue.Options{
			Name: rootName, CommonName: organization + " Root CA", Organization: organization,
		}, setupActor())
		if err != nil {
			return fmt.Errorf("create root: %w", err)
		}
	}
	if err := p.Catalog.Load(ctx); err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	root, ok := p.Catalog.Snapshot().CAByName(rootName)
	if !ok {
		return errors.New("the root that was just made is not there")
	}
	if _, ok := p.Catalog.Snapshot().CAByName(issuingName); !ok {
		_, err := p.Authority.CreateIssuing(ctx, issue.IssuingOptions{Options: issue.Options{
			Name: issuingName, CommonName: organization + " Issuing CA", Organization: organization,
		}, Parent: root.ID}, setupActor())
		if err != nil {
			return fmt.Errorf("create issuing CA: %w", err)
		}
	}
	if err := p.Catalog.Load(ctx); err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	return writeFile(rootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}), publicMode)
}

// setupProfile makes a profile unless one of its name is there. Rules start from the template's.
func (p *Parts) setupProfile(
	ctx context.Context, name string, template pki.Template, method pki.EnrollmentMethod, change func(*pki.ProfileRules),
) (*pki.Profile, error) {
	if profile, ok := p.Catalog.Snapshot().ProfileByName(name); ok {
		return profile, nil
	}
	issuing, ok := p.Catalog.Snapshot().CAByName(issuingName)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no CA %q for profile %q", issuingName, name)
	}
	rules, _ := policy.TemplateRules(template)
	change(&rules)
	profile, err := p.Catalog.CreateProfile(ctx, pki.Profile{
		Name: name, Template: template, IssuingCA: issuing.ID, Method: method, State: pki.Active, Rules: rules,
	}, setupActor())
	if err != nil {
		return nil, fmt.Errorf("create profile %s: %w", name, err)
	}
	return profile, nil
}

// setupOwnProfile makes the profile of the server's own certificate, for exactly the names that it needs.
func (p *Parts) setupOwnProfile(ctx context.Context) error {
	_, err := p.setupProfile(ctx, p.Settings.TLS.Profile, pki.PrivateServer, pki.RESTAPI, func(rules *pki.ProfileRules) {
		for _, name := range ownNames(p.Settings) {
			if addr, err := netip.ParseAddr(name); err == nil {
				rules.Names.IP.Allow = append(rules.Names.IP.Allow, netip.PrefixFrom(addr, addr.BitLen()))
				continue
			}
			rules.Names.DNS.Allow = append(rules.Names.DNS.Allow, name)
		}
	})
	return err
}

// setupAdmin makes a user and an API token with all rights, and writes them to the connection file. The password is in
// the file before the user is in the database, so that a set-up that was interrupted goes on where it stopped.
func (p *Parts) setupAdmin(ctx context.Context, c *Connection, file string) error {
	begun := c.AdminPassword != ""
	if !begun {
		raw := make([]byte, passwordBytes)
		if _, err := io.ReadFull(p.Random, raw); err != nil {
			return fmt.Errorf("read randomness: %w", err)
		}
		c.AdminUser, c.AdminPassword = adminName, base64.RawURLEncoding.EncodeToString(raw)
		if err := writeConnection(file, c); err != nil {
			return err
		}
	}
	if c.APIToken != "" {
		return nil
	}
	_, err := p.Auth.CreateUser(ctx, auth.NewUser{Name: c.AdminUser, Password: c.AdminPassword, Role: pki.RoleAdmin}, setupActor())
	switch {
	case fault.Is(err, fault.Conflict) && begun: // made before the interruption, with the password in the file
	case fault.Is(err, fault.Conflict):
		return errors.Join(os.Remove(file), fault.Wrap(err, fault.Conflict,
			"the database has an administrator already, whose password was in %s, which is gone", file).
			WithHint("put the file back, or remove the database to start anew"))
	case err != nil:
		return fmt.Errorf("create user %s: %w", c.AdminUser, err)
	}
	c.APIToken, _, err = p.Auth.CreateToken(ctx, auth.NewToken{Name: adminName, Role: pki.RoleAdmin}, setupActor())
	if err != nil {
		return fmt.Errorf("create token: %w", err)
	}
	return writeConnection(file, c)
}

// passwordBytes is how much randomness a password has that a set-up makes.
const passwordBytes = 18

// setupCredential returns the EAB credential of a profile with the given name, making it unless it is there. When it
// was revoked, another one takes its place: "dev-2" for "dev".
func (p *Parts) setupCredential(ctx context.Context, profile *pki.Profile, name string) (ACMECredential, error) {
	made := ACMECredential{DirectoryURL: p.baseURL() + "/acme/directory"}
	known := p.Catalog.Snapshot().CredentialsOf(profile.ID)
	free := name
	for n := 2; ; n++ {
		at := slices.IndexFunc(known, func(c *pki.Credential) bool { return c.Name == free })
		if at < 0 {
			break
		}
		if known[at].Usable(p.Now()) {
			key, err := p.Catalog.CredentialKey(ctx, known[at])
			if err != nil {
				return made, fmt.Errorf("open credential %s: %w", free, err)
			}
			made.KeyID, made.HMACKey = string(known[at].ID), base64.RawURLEncoding.EncodeToString(key)
			return made, nil
		}
		free = fmt.Sprintf("%s-%d", name, n)
	}
	c, key, err := p.Catalog.CreateCredential(ctx, catalog.NewCredential{ProfileID: profile.ID, Name: free}, setupActor())
	if err != nil {
		return made, fmt.Errorf("create credential %s: %w", free, err)
	}
	made.KeyID, made.HMACKey = string(c.ID), base64.RawURLEncoding.EncodeToString(key)
	return made, nil
}

// File modes of what a set-up writes.
const (
	publicMode = 0o644
	secretMode = 0o600
)

// writeFile replaces a file at once, so that nobody reads half of it and a crash leaves the old one.
func writeFile(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".certloom-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // gone already, unless something below failed
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// syncFolder makes a new name in a folder durable: what the database says next, sealed under a key in that file, is
// worth nothing without it.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// writeConnection writes a connection file.
func writeConnection(path string, c *Connection) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode connection: %w", err)
	}
	return writeFile(path, append(raw, '\n'), secretMode)
}

// readConnection reads a connection file; nil when there is none.
func readConnection(path string) (*Connection, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // "there is none" is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("read connection: %w", err)
	}
	var c Connection
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("read connection %s: %w", path, err)
	}
	return &c, nil
}
