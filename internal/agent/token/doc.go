// Package token answers one question: which ServiceAccount, in which Pod, holds this bearer token? Local answers from
// the API server's public keys and from what the cluster has; Review asks the API server. Both give the same answers.
//
// It must never log or keep a token, only a hash of one. It trusts the API server; every byte of a token comes from
// an attacker until its signature has been verified.
package token

import (
	"strings"

	"github.com/certloom/certloom/internal/fault"
)

// Subject is who a token stands for.
type Subject struct {
	Namespace      string
	ServiceAccount string
	// Pod and PodUID are "" for a token that is bound to no Pod.
	Pod    string
	PodUID string
	Node   string // "" when it is not known
}

// maxToken is far above what API servers make (about 1 KB) and below what parsing could be abused for.
const maxToken = 16 << 10

// refuse returns the error for a token that is not accepted. The sentence is for the log and for the Pod's Event.
func refuse(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...)
}

// checkShape refuses what is not a token before anything is computed with it.
func checkShape(raw string) error {
	switch {
	case raw == "":
		return refuse("the bearer token is empty")
	case len(raw) > maxToken:
		return refuse("the bearer token has %d bytes, more than %d", len(raw), maxToken)
	case strings.Count(raw, ".") != 2:
		return refuse("the bearer token is not a JSON Web Token: it does not have three parts")
	}
	return nil
}
