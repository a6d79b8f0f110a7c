// Package oidc signs people in at an OpenID Connect provider: the authorization code flow (OpenID Connect Core 1.0
// section 3.1) with PKCE (RFC 7636), and the mapping of the provider's groups to roles here.
//
// It must never let somebody in of whom the provider has not said, in an ID token that was verified in full, who it is,
// or who is in no group that has a role: without a matching rule there is no sign-in. It must never keep or log a code, a
// token or the client's secret. It trusts what the provider signs and what is sent over TLS from the provider's own
// endpoints; of what a browser brings it trusts only what it has sealed itself.
package oidc
