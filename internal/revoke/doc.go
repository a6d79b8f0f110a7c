// Package revoke owns revocation: it marks certificates as revoked and publishes that, as CRLs (RFC 5280 section 5)
// and as OCSP answers (RFC 6960). It is the only place where a CA key signs either.
//
// It must never say "good" of a certificate that is not in the inventory, and never take a certificate back from a
// revocation other than a hold. It trusts its caller to have checked who asks (the account, the credential or the key of the
// certificate), and nothing of an OCSP request, which comes from anybody.
package revoke
