package apiv1

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// get, post and the rest of this file are one method for each operation, in the order of the API's documentation.

func get[T any](ctx context.Context, c *Client, path string, q query) (*T, error) {
	out := new(T)
	if err := c.call(ctx, http.MethodGet, path, url.Values(q), nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// wholePage is how many are asked for at a time of a list that is wanted as a whole: the most that there can be.
const wholePage = 1000

// whole gets a list page by page, and returns it as one.
func whole[T any](ctx context.Context, c *Client, path string, q query) (*Page[T], error) {
	all := &Page[T]{Items: []T{}}
	err := All(func(after string) (*Page[T], error) {
		return onePage[T](ctx, c, path, q, after, wholePage)
	}, func(item T) error {
		all.Items = append(all.Items, item)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// onePage gets a page of a list: at most limit items after those that a cursor stands for.
func onePage[T any](ctx context.Context, c *Client, path string, q query, after string, limit int) (*Page[T], error) {
	return get[Page[T]](ctx, c, path, q.number("limit", limit).text("after", after))
}

func send[T any](ctx context.Context, c *Client, method, path string, in any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, method, path, nil, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// at builds a path, escaping each element.
func at(elements ...string) string {
	path := ""
	for _, element := range elements {
		path += "/" + url.PathEscape(element)
	}
	return path
}

// Login exchanges a password for a token. It needs no token.
func (c *Client) Login(ctx context.Context, in Login) (*NewToken, error) {
	return send[NewToken](ctx, c, http.MethodPost, "/login", in)
}

// Whoami says whose token this is.
func (c *Client) Whoami(ctx context.Context) (*Caller, error) {
	return get[Caller](ctx, c, "/whoami", nil)
}

// Status says how the server is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/status", nil)
}

// Statistics says what there is and what happens, in figures.
func (c *Client) Statistics(ctx context.Context) (*Statistics, error) {
	return get[Statistics](ctx, c, "/statistics", nil)
}

// Templates lists the base templates.
func (c *Client) Templates(ctx context.Context) (*Page[Template], error) {
	return whole[Template](ctx, c, "/templates", query{})
}

// CAs lists the CAs.
func (c *Client) CAs(ctx context.Context) (*Page[CA], error) {
	return whole[CA](ctx, c, "/cas", query{})
}

// CAPage lists them page by page.
func (c *Client) CAPage(ctx context.Context, after string, limit int) (*Page[CA], error) {
	return onePage[CA](ctx, c, "/cas", query{}, after, limit)
}

// CA shows one.
func (c *Client) CA(ctx context.Context, name string) (*CA, error) {
	return get[CA](ctx, c, at("cas", name), nil)
}

// CreateCA makes a root or an issuing CA.
func (c *Client) CreateCA(ctx context.Context, in CreateCA) (*CA, error) {
	return send[CA](ctx, c, http.MethodPost, "/cas", in)
}

// ImportCA brings an existing one.
func (c *Client) ImportCA(ctx context.Context, in ImportCA) (*CA, error) {
	return send[CA](ctx, c, http.MethodPost, "/cas/import", in)
}

// CACSR returns the request for an outside root.
func (c *Client) CACSR(ctx context.Context, name string) (*CACSR, error) {
	return get[CACSR](ctx, c, at("cas", name, "csr"), nil)
}

// InstallCertificate completes a pending CA.
func (c *Client) InstallCertificate(ctx context.Context, name string, in InstallCertificate) (*CA, error) {
	return send[CA](ctx, c, http.MethodPost, at("cas", name, "certificate"), in)
}

// UpdateCASettings replaces the settings of a CA.
func (c *Client) UpdateCASettings(ctx context.Context, name string, in CASettings) (*CA, error) {
	return send[CA](ctx, c, http.MethodPut, at("cas", name, "settings"), in)
}

// SuspendCA suspends a CA.
func (c *Client) SuspendCA(ctx context.Context, name string) (*CA, error) {
	return send[CA](ctx, c, http.MethodPost, at("cas", name, "suspend"), nil)
}

// RevokeCA revokes an issuing CA for good.
func (c *Client) RevokeCA(ctx context.Context, name string, in RevokeCA) (*CA, error) {
	return send[CA](ctx, c, http.MethodPost, at("cas", name, "revoke"), in)
}

// ActivateCA activates a suspended CA.
func (c *Client) ActivateCA(ctx context.Context, name string) (*CA, error) {
	return send[CA](ctx, c, http.MethodPost, at("cas", name, "activate"), nil)
}

// Profiles lists the profiles.
func (c *Client) Profiles(ctx context.Context) (*Page[Profile], error) {
	return whole[Profile](ctx, c, "/profiles", query{})
}

// ProfilePage lists them page by page.
func (c *Client) ProfilePage(ctx context.Context, after string, limit int) (*Page[Profile], error) {
	return onePage[Profile](ctx, c, "/profiles", query{}, after, limit)
}

// Profile shows one.
func (c *Client) Profile(ctx context.Context, name string) (*Profile, error) {
	return get[Profile](ctx, c, at("profiles", name), nil)
}

// CreateProfile makes a profile. What is asked for is anything whose JSON is a CreateProfile: a map can leave out the
// rules that are to be the template's, which a struct cannot.
func (c *Client) CreateProfile(ctx context.Context, in any) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPost, "/profiles", in)
}

// UpdateProfile changes a profile. The change is anything whose JSON is an UpdateProfile: a map can leave out what
// stays, which a struct cannot.
func (c *Client) UpdateProfile(ctx context.Context, name string, change any) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPatch, at("profiles", name), change)
}

// CloneProfile makes a copy under another name.
func (c *Client) CloneProfile(ctx context.Context, name string, in CloneProfile) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPost, at("profiles", name, "clone"), in)
}

// SuspendProfile suspends a profile.
func (c *Client) SuspendProfile(ctx context.Context, name string) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPost, at("profiles", name, "suspend"), nil)
}

// ActivateProfile activates a suspended profile.
func (c *Client) ActivateProfile(ctx context.Context, name string) (*Profile, error) {
	return send[Profile](ctx, c, http.MethodPost, at("profiles", name, "activate"), nil)
}

// DeleteProfile deletes a profile that nothing refers to.
func (c *Client) DeleteProfile(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, at("profiles", name), nil, nil, nil)
}

// CheckPolicy asks whether a certificate would be issued, and why not. The question is anything whose JSON is a
// PolicyQuestion: a map can leave out the rules of a draft that are to be the template's, which a struct cannot.
func (c *Client) CheckPolicy(ctx context.Context, question any) (*PolicyAnswer, error) {
	return send[PolicyAnswer](ctx, c, http.MethodPost, "/policy/check", question)
}

// PreviewPolicy shows an example certificate of a profile or of a draft of one; the question is as CheckPolicy's.
func (c *Client) PreviewPolicy(ctx context.Context, question any) (*PolicyAnswer, error) {
	return send[PolicyAnswer](ctx, c, http.MethodPost, "/policy/preview", question)
}

// Credentials lists the EAB credentials, of one profile if it is named.
func (c *Client) Credentials(ctx context.Context, profile string) (*Page[Credential], error) {
	return whole[Credential](ctx, c, "/credentials", query{}.text("profile", profile))
}

// CredentialPage lists them page by page.
func (c *Client) CredentialPage(ctx context.Context, profile, after string, limit int) (*Page[Credential], error) {
	return onePage[Credential](ctx, c, "/credentials", query{}.text("profile", profile), after, limit)
}

// Credential shows one, without its key.
func (c *Client) Credential(ctx context.Context, keyID string) (*Credential, error) {
	return get[Credential](ctx, c, at("credentials", keyID), nil)
}

// CreateCredential makes an EAB credential.
func (c *Client) CreateCredential(ctx context.Context, in CreateCredential) (*NewCredential, error) {
	return send[NewCredential](ctx, c, http.MethodPost, "/credentials", in)
}

// RevokeCredential ends an EAB credential.
func (c *Client) RevokeCredential(ctx context.Context, keyID string) (*Credential, error) {
	return send[Credential](ctx, c, http.MethodPost, at("credentials", keyID, "revoke"), nil)
}

func (q CertificateQuery) values() query {
	return query{}.text("q", q.Text).text("identity", q.Identity).text("trustDomain", q.TrustDomain).text("namespace", q.Namespace).
		text("profile", q.Profile).text("issuingCa", q.IssuingCA).text("credential", q.Credential).text("account", q.Account).
		text("cluster", q.Cluster).text("pod", q.Pod).
		text("status", q.Status).text("fingerprint", q.Fingerprint).time("issuedAfter", q.IssuedAfter).
		time("expiresBefore", q.ExpiresBefore).text("after", q.After).number("limit", q.Limit)
}

// Certificates lists certificates, newest first.
func (c *Client) Certificates(ctx context.Context, q CertificateQuery) (*Page[Certificate], error) {
	return get[Page[Certificate]](ctx, c, "/certificates", q.values())
}

// Certificate shows one.
func (c *Client) Certificate(ctx context.Context, serial string) (*Certificate, error) {
	return get[Certificate](ctx, c, at("certificates", serial), nil)
}

// CertificatePEM returns a certificate, with the certificates above it if chain is set.
func (c *Client) CertificatePEM(ctx context.Context, serial string, chain bool) ([]byte, error) {
	q := query{}
	if chain {
		q = q.text("chain", "true")
	}
	response, err := c.send(ctx, http.MethodGet, at("certificates", serial, "pem"), url.Values(q), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return raw, nil
}

// CreateCertificate asks for a certificate.
func (c *Client) CreateCertificate(ctx context.Context, in CreateCertificate) (*NewCertificate, error) {
	return send[NewCertificate](ctx, c, http.MethodPost, "/certificates", in)
}

// RevokeCertificate revokes one.
func (c *Client) RevokeCertificate(ctx context.Context, serial string, in RevokeCertificate) (*Certificate, error) {
	return send[Certificate](ctx, c, http.MethodPost, at("certificates", serial, "revoke"), in)
}

// HoldCertificate revokes one until it is released.
func (c *Client) HoldCertificate(ctx context.Context, serial string) (*Certificate, error) {
	return send[Certificate](ctx, c, http.MethodPost, at("certificates", serial, "hold"), nil)
}

// ReleaseCertificate releases one that is held.
func (c *Client) ReleaseCertificate(ctx context.Context, serial string) (*Certificate, error) {
	return send[Certificate](ctx, c, http.MethodPost, at("certificates", serial, "release"), nil)
}

// RevokeCertificates revokes several.
func (c *Client) RevokeCertificates(ctx context.Context, in RevokeCertificates) (*Revocations, error) {
	return send[Revocations](ctx, c, http.MethodPost, "/certificates/revoke", in)
}

// ExportCertificates streams certificates as json, csv or pem. The caller closes the stream. A stream that breaks off
// ends with an error, never with io.EOF.
func (c *Client) ExportCertificates(ctx context.Context, format string, q CertificateQuery) (io.ReadCloser, error) {
	response, err := c.send(ctx, http.MethodGet, "/certificates/export", url.Values(q.values().text("format", format)), nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (q IdentityQuery) values() query {
	return query{}.text("q", q.Text).text("cluster", q.Cluster).text("name", q.Name).text("trustDomain", q.TrustDomain).
		text("namespace", q.Namespace).text("profile", q.Profile).text("status", q.Status).text("after", q.After).number("limit", q.Limit)
}

// Identities lists identities by name; those that a text finds, by what it has found.
func (c *Client) Identities(ctx context.Context, q IdentityQuery) (*Page[Identity], error) {
	return get[Page[Identity]](ctx, c, "/identities", q.values())
}

// ExportIdentities streams identities as json or csv, as ExportCertificates does.
func (c *Client) ExportIdentities(ctx context.Context, format string, q IdentityQuery) (io.ReadCloser, error) {
	response, err := c.send(ctx, http.MethodGet, "/identities/export", url.Values(q.values().text("format", format)), nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// Identity shows one.
func (c *Client) Identity(ctx context.Context, name string) (*Identity, error) {
	return get[Identity](ctx, c, at("identities", name), nil)
}

// Tokens lists the API tokens.
func (c *Client) Tokens(ctx context.Context) (*Page[Token], error) {
	return whole[Token](ctx, c, "/tokens", query{})
}

// TokenPage lists them page by page.
func (c *Client) TokenPage(ctx context.Context, after string, limit int) (*Page[Token], error) {
	return onePage[Token](ctx, c, "/tokens", query{}, after, limit)
}

// CreateToken makes an API token.
func (c *Client) CreateToken(ctx context.Context, in CreateToken) (*NewToken, error) {
	return send[NewToken](ctx, c, http.MethodPost, "/tokens", in)
}

// RevokeToken ends an API token.
func (c *Client) RevokeToken(ctx context.Context, id string) (*Token, error) {
	return send[Token](ctx, c, http.MethodPost, at("tokens", id, "revoke"), nil)
}

// Users lists the people who may sign in.
func (c *Client) Users(ctx context.Context) (*Page[User], error) {
	return whole[User](ctx, c, "/users", query{})
}

// UserPage lists them page by page.
func (c *Client) UserPage(ctx context.Context, after string, limit int) (*Page[User], error) {
	return onePage[User](ctx, c, "/users", query{}, after, limit)
}

// User shows one.
func (c *Client) User(ctx context.Context, name string) (*User, error) {
	return get[User](ctx, c, at("users", name), nil)
}

// CreateUser makes a user who signs in with a password.
func (c *Client) CreateUser(ctx context.Context, in CreateUser) (*User, error) {
	return send[User](ctx, c, http.MethodPost, "/users", in)
}

// UpdateUser changes a user.
func (c *Client) UpdateUser(ctx context.Context, name string, in UpdateUser) (*User, error) {
	return send[User](ctx, c, http.MethodPatch, at("users", name), in)
}

// DeleteUser deletes a user with all sessions.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, at("users", name), nil, nil, nil)
}

// UnlockUser forgets a user's failures to sign in.
func (c *Client) UnlockUser(ctx context.Context, name string) (*User, error) {
	return send[User](ctx, c, http.MethodPost, at("users", name, "unlock"), nil)
}

// Sessions lists the caller's sessions, or everybody's.
func (c *Client) Sessions(ctx context.Context, all bool) (*Page[Session], error) {
	return whole[Session](ctx, c, "/sessions", sessionsOf(all))
}

// SessionPage lists them page by page.
func (c *Client) SessionPage(ctx context.Context, all bool, after string, limit int) (*Page[Session], error) {
	return onePage[Session](ctx, c, "/sessions", sessionsOf(all), after, limit)
}

func sessionsOf(all bool) query {
	if all {
		return query{}.text("all", "true")
	}
	return query{}
}

// EndSession ends a session.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, at("sessions", id, "end"), nil, nil, nil)
}

// ChangeOwnPassword changes the caller's own password; all of the caller's sessions end.
func (c *Client) ChangeOwnPassword(ctx context.Context, in ChangePassword) error {
	return c.call(ctx, http.MethodPost, "/self/password", nil, in, nil)
}

// Events lists audit events, newest first.
func (c *Client) Events(ctx context.Context, q EventQuery) (*Page[Event], error) {
	return get[Page[Event]](ctx, c, "/events", q.values().text("after", q.After).number("limit", q.Limit))
}

// ExportEvents streams audit events as json or csv, newest first. The caller closes the stream. A stream that breaks off
// ends with an error.
func (c *Client) ExportEvents(ctx context.Context, format string, q EventQuery) (io.ReadCloser, error) {
	response, err := c.send(ctx, http.MethodGet, "/events/export", url.Values(q.values().text("format", format)), nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (q *EventQuery) values() query {
	return query{}.text("action", q.Action).text("target", q.Target).text("actor", q.Actor).text("outcome", q.Outcome).time("since", q.Since)
}
