package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func (s *Server) credentialRoutes() {
	const tag = "credentials"
	register(s, operation{
		id: "list-credentials", method: http.MethodGet, path: "/credentials", tag: tag, access: auth.Read,
		summary: "List EAB credentials",
	}, s.listCredentials)
	register(s, operation{
		id: "create-credential", method: http.MethodPost, path: "/credentials", tag: tag, access: auth.Operate,
		status: http.StatusCreated, summary: "Create an EAB credential; its HMAC key is shown once",
	}, s.createCredential)
	register(s, operation{
		id: "get-credential", method: http.MethodGet, path: "/credentials/{keyId}", tag: tag, access: auth.Read,
		summary: "Show an EAB credential, without its key",
	}, s.getCredential)
	register(s, operation{
		id: "revoke-credential", method: http.MethodPost, path: "/credentials/{keyId}/revoke", tag: tag, access: auth.Operate,
		summary: "Revoke an EAB credential: its accounts obtain nothing more",
	}, s.revokeCredential)
}

func (s *Server) listCredentials(ctx context.Context, in *struct {
	Profile string `query:"profile" doc:"Name or identifier of the profile; absent: all." maxLength:"100"`
	PageQuery
},
) (*output[apiv1.Page[apiv1.Credential]], error) {
	view := s.config.Catalog.Snapshot()
	var only pki.ProfileID
	if in.Profile != "" {
		p, err := namedProfile(view, in.Profile, "profile")
		if err != nil {
			return nil, err
		}
		only = p.ID
	}
	// Not from the view: last use and number of accounts change without a change of the catalog.
	credentials, err := s.config.Store.Credentials(ctx)
	if err != nil {
		return nil, err
	}
	credentials = slices.DeleteFunc(credentials, func(c pki.Credential) bool { return only != "" && c.ProfileID != only })
	place := func(c pki.Credential) string {
		return strings.Join([]string{profileName(view, c.ProfileID), c.Name, string(c.ID)}, "\x00")
	}
	slices.SortFunc(credentials, func(a, b pki.Credential) int { return strings.Compare(place(a), place(b)) })
	return answer(pageOf(&in.PageQuery, credentials, place, func(c pki.Credential) apiv1.Credential {
		return s.wireCredential(view, &c)
	})), nil
}

func (s *Server) wireCredential(view *catalog.Snapshot, c *pki.Credential) apiv1.Credential {
	out := apiv1.Credential{
		KeyID: string(c.ID), Name: c.Name, Profile: profileName(view, c.ProfileID),
		State:     stateAt(c.State, c.ExpiresAt, s.config.Now()),
		ExpiresAt: utc(c.ExpiresAt), MaxAccounts: c.MaxAccounts, Accounts: c.Accounts,
		CreatedAt: utc(c.CreatedAt), RevokedAt: utc(c.RevokedAt), LastUsedAt: utc(c.LastUsedAt),
	}
	if c.Limit != nil {
		limit := wireNames(c.Limit)
		out.Limit = &limit
	}
	return out
}

func (s *Server) createCredential(ctx context.Context, in *struct{ body[apiv1.CreateCredential] }) (*output[apiv1.NewCredential], error) {
	var found findings
	p, err := namedProfile(s.config.Catalog.Snapshot(), in.Body.Profile, "/profile")
	if err != nil {
		found = append(found, err)
	}
	request := catalog.NewCredential{Name: in.Body.Name, ExpiresAt: in.Body.ExpiresAt, MaxAccounts: in.Body.MaxAccounts}
	if in.Body.Limit != nil {
		limit := found.names("/limit", in.Body.Limit)
		request.Limit = &limit
	}
	if err := found.err(); err != nil {
		request.Limit = nil // it may be half read
		return nil, errors.Join(err, request.Check(s.config.Now().UTC()))
	}
	request.ProfileID = p.ID
	created, key, err := s.config.Catalog.CreateCredential(ctx, request, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	out := apiv1.NewCredential{
		DirectoryURL: s.directoryURL(), KeyID: string(created.ID), HMACKey: base64.RawURLEncoding.EncodeToString(key),
	}
	if p.Method == pki.Agent {
		out.AgentURL = s.config.AgentURL
	}
	return answer(out), nil
}

// CredentialPath is the parameter of operations on one EAB credential.
type CredentialPath struct {
	KeyID string `path:"keyId" doc:"KID of the credential." maxLength:"100"`
}

func (s *Server) getCredential(ctx context.Context, in *CredentialPath) (*output[apiv1.Credential], error) {
	credentials, err := s.config.Store.Credentials(ctx)
	if err != nil {
		return nil, err
	}
	for i := range credentials {
		if string(credentials[i].ID) == in.KeyID {
			return answer(s.wireCredential(s.config.Catalog.Snapshot(), &credentials[i])), nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no credential %.100q", in.KeyID).WithHint("list them: certloom credential list")
}

func (s *Server) revokeCredential(ctx context.Context, in *CredentialPath) (*output[apiv1.Credential], error) {
	revoked, err := s.config.Catalog.RevokeCredential(ctx, pki.CredentialID(in.KeyID), auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return s.getCredential(ctx, &CredentialPath{KeyID: string(revoked.ID)}) // with what only the database knows
}
