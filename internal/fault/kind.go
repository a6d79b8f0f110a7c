package fault

import (
	"log/slog"
	"net/http"
)

// Kind is what went wrong, seen from outside. The zero value is Internal, so that a forgotten kind says least.
type Kind uint8

// Kinds. The table below says what each becomes on the wire.
const (
	Internal Kind = iota
	Unavailable
	Malformed
	NotFound
	MethodNotAllowed
	Conflict
	TooLarge
	UnsupportedMediaType
	Unauthenticated
	Unauthorized
	AccountDeactivated
	AccountDoesNotExist
	AlreadyReplaced
	AlreadyRevoked
	BadCSR
	BadNonce
	BadPublicKey
	BadRevocationReason
	BadSignatureAlgorithm
	CAA
	Compound
	Connection
	DNS
	ExternalAccountRequired
	IncorrectResponse
	InvalidContact
	InvalidProfile
	OrderNotReady
	RateLimited
	RejectedIdentifier
	TLS
	UnsupportedContact
	UnsupportedIdentifier
	UserActionRequired
	kinds // count
)

// Meaning is a kind's row of the table.
type Meaning struct {
	ACME   string     // problem type without "urn:ietf:params:acme:error:" (RFC 8555 section 6.7, RFC 9773, ACME profiles)
	Status int        // HTTP status
	Level  slog.Level // at which the request is logged
	Title  string     // short words for people
}

// Meaning returns the kind's row; unknown kinds have that of Internal.
func (k Kind) Meaning() Meaning {
	if k >= kinds {
		return meaning(Internal)
	}
	return meaning(k)
}

// String returns the title.
func (k Kind) String() string { return k.Meaning().Title }

// Kinds returns every kind, for tests that walk the table.
func Kinds() []Kind {
	all := make([]Kind, 0, kinds)
	for k := range kinds {
		all = append(all, k)
	}
	return all
}

func meaning(k Kind) Meaning {
	const info, warn, bad = slog.LevelInfo, slog.LevelWarn, slog.LevelError
	table := [kinds]Meaning{
		Internal:                {"serverInternal", http.StatusInternalServerError, bad, "internal error"},
		Unavailable:             {"serverInternal", http.StatusServiceUnavailable, warn, "temporarily unavailable"},
		Malformed:               {"malformed", http.StatusBadRequest, info, "malformed request"},
		NotFound:                {"malformed", http.StatusNotFound, info, "not found"},
		MethodNotAllowed:        {"malformed", http.StatusMethodNotAllowed, info, "method not allowed"},
		Conflict:                {"malformed", http.StatusConflict, info, "conflict"},
		TooLarge:                {"malformed", http.StatusRequestEntityTooLarge, info, "request too large"},
		UnsupportedMediaType:    {"malformed", http.StatusUnsupportedMediaType, info, "unsupported media type"},
		Unauthenticated:         {"unauthorized", http.StatusUnauthorized, info, "not signed in"},
		Unauthorized:            {"unauthorized", http.StatusForbidden, info, "not allowed"},
		AccountDeactivated:      {"unauthorized", http.StatusUnauthorized, info, "account deactivated"},
		AccountDoesNotExist:     {"accountDoesNotExist", http.StatusBadRequest, info, "account does not exist"},
		AlreadyReplaced:         {"alreadyReplaced", http.StatusConflict, info, "already replaced"},
		AlreadyRevoked:          {"alreadyRevoked", http.StatusBadRequest, info, "already revoked"},
		BadCSR:                  {"badCSR", http.StatusBadRequest, info, "unacceptable CSR"},
		BadNonce:                {"badNonce", http.StatusBadRequest, slog.LevelDebug, "bad nonce"},
		BadPublicKey:            {"badPublicKey", http.StatusBadRequest, info, "unacceptable public key"},
		BadRevocationReason:     {"badRevocationReason", http.StatusBadRequest, info, "unacceptable revocation reason"},
		BadSignatureAlgorithm:   {"badSignatureAlgorithm", http.StatusBadRequest, info, "unacceptable signature algorithm"},
		CAA:                     {"caa", http.StatusForbidden, info, "forbidden by CAA"},
		Compound:                {"compound", http.StatusForbidden, info, "several problems"},
		Connection:              {"connection", http.StatusBadRequest, info, "connection failed"},
		DNS:                     {"dns", http.StatusBadRequest, info, "DNS query failed"},
		ExternalAccountRequired: {"externalAccountRequired", http.StatusForbidden, info, "external account required"},
		IncorrectResponse:       {"incorrectResponse", http.StatusBadRequest, info, "incorrect response"},
		InvalidContact:          {"invalidContact", http.StatusBadRequest, info, "invalid contact"},
		InvalidProfile:          {"invalidProfile", http.StatusBadRequest, info, "invalid profile"},
		OrderNotReady:           {"orderNotReady", http.StatusForbidden, info, "order not ready"},
		RateLimited:             {"rateLimited", http.StatusTooManyRequests, warn, "rate limited"},
		RejectedIdentifier:      {"rejectedIdentifier", http.StatusForbidden, info, "rejected identifier"},
		TLS:                     {"tls", http.StatusBadRequest, info, "TLS failed"},
		UnsupportedContact:      {"unsupportedContact", http.StatusBadRequest, info, "unsupported contact"},
		UnsupportedIdentifier:   {"unsupportedIdentifier", http.StatusBadRequest, info, "unsupported identifier"},
		UserActionRequired:      {"userActionRequired", http.StatusForbidden, info, "user action required"},
	}
	return table[k]
}
