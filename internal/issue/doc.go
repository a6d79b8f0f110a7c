// Package issue owns the sequence that makes certificates (docs/design/issuance.md) and the ceremonies that make CAs.
// It is the only place where a CA key signs a certificate.
//
// It must never let a certificate out that is not in durable storage together with its audit event, and never put
// anything into one that policy did not accept or the profile does not say. It trusts the profile, the credential and
// the account that it is given to be those of the request, asks storage again whether they still count, and trusts
// nothing of the CSR.
package issue
