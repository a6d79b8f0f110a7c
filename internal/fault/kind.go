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
	PreconditionFailed
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
	Code   uint32     // of gRPC; the same number as in google.golang.org/grpc/codes
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

// gRPC's codes (https://grpc.io/docs/guides/status-codes), for those who do not speak it and need not link it.
const (
	codeInvalidArgument    = 3
	codeNotFound           = 5
	codePermissionDenied   = 7
	codeResourceExhausted  = 8
	codeFailedPrecondition = 9
	codeAborted            = 10
	codeUnimplemented      = 12
	codeInternal           = 13
	codeUnavailable        = 14
	codeUnauthenticated    = 16
)

func meaning(k Kind) Meaning {
	const info, warn, bad = slog.LevelInfo, slog.LevelWarn, slog.LevelError
	table := [kinds]Meaning{
		Internal:                {"serverInternal", http.StatusInternalServerError, codeInternal, bad, "internal error"},
		Unavailable:             {"serverInternal", http.StatusServiceUnavailable, codeUnavailable, warn, "temporarily unavailable"},
		Malformed:               {"malformed", http.StatusBadRequest, codeInvalidArgument, info, "malformed request"},
		NotFound:                {"malformed", http.StatusNotFound, codeNotFound, info, "not found"},
		MethodNotAllowed:        {"malformed", http.StatusMethodNotAllowed, codeUnimplemented, info, "method not allowed"},
		Conflict:                {"malformed", http.StatusConflict, codeFailedPrecondition, info, "conflict"},
		PreconditionFailed:      {"malformed", http.StatusPreconditionFailed, codeFailedPrecondition, info, "changed meanwhile"},
		TooLarge:                {"malformed", http.StatusRequestEntityTooLarge, codeInvalidArgument, info, "request too large"},
		UnsupportedMediaType:    {"malformed", http.StatusUnsupportedMediaType, codeInvalidArgument, info, "unsupported media type"},
		Unauthenticated:         {"unauthorized", http.StatusUnauthorized, codeUnauthenticated, info, "not signed in"},
		Unauthorized:            {"unauthorized", http.StatusForbidden, codePermissionDenied, info, "not allowed"},
		AccountDeactivated:      {"unauthorized", http.StatusUnauthorized, codePermissionDenied, info, "account deactivated"},
		AccountDoesNotExist:     {"accountDoesNotExist", http.StatusBadRequest, codeInvalidArgument, info, "account does not exist"},
		AlreadyReplaced:         {"alreadyReplaced", http.StatusConflict, codeFailedPrecondition, info, "already replaced"},
		AlreadyRevoked:          {"alreadyRevoked", http.StatusBadRequest, codeFailedPrecondition, info, "already revoked"},
		BadCSR:                  {"badCSR", http.StatusBadRequest, codeInvalidArgument, info, "unacceptable CSR"},
		BadNonce:                {"badNonce", http.StatusBadRequest, codeAborted, slog.LevelDebug, "bad nonce"},
		BadPublicKey:            {"badPublicKey", http.StatusBadRequest, codeInvalidArgument, info, "unacceptable public key"},
		BadRevocationReason:     {"badRevocationReason", http.StatusBadRequest, codeInvalidArgument, info, "unacceptable revocation reason"},
		BadSignatureAlgorithm:   {"badSignatureAlgorithm", http.StatusBadRequest, codeInvalidArgument, info, "unacceptable signature algorithm"},
		CAA:                     {"caa", http.StatusForbidden, codePermissionDenied, info, "forbidden by CAA"},
		Compound:                {"compound", http.StatusForbidden, codePermissionDenied, info, "several problems"},
		Connection:              {"connection", http.StatusBadRequest, codeInvalidArgument, info, "connection failed"},
		DNS:                     {"dns", http.StatusBadRequest, codeInvalidArgument, info, "DNS query failed"},
		ExternalAccountRequired: {"externalAccountRequired", http.StatusForbidden, codePermissionDenied, info, "external account required"},
		IncorrectResponse:       {"incorrectResponse", http.StatusBadRequest, codeInvalidArgument, info, "incorrect response"},
		InvalidContact:          {"invalidContact", http.StatusBadRequest, codeInvalidArgument, info, "invalid contact"},
		InvalidProfile:          {"invalidProfile", http.StatusBadRequest, codeInvalidArgument, info, "invalid profile"},
		OrderNotReady:           {"orderNotReady", http.StatusForbidden, codeFailedPrecondition, info, "order not ready"},
		RateLimited:             {"rateLimited", http.StatusTooManyRequests, codeResourceExhausted, warn, "rate limited"},
		RejectedIdentifier:      {"rejectedIdentifier", http.StatusForbidden, codePermissionDenied, info, "rejected identifier"},
		TLS:                     {"tls", http.StatusBadRequest, codeInvalidArgument, info, "TLS failed"},
		UnsupportedContact:      {"unsupportedContact", http.StatusBadRequest, codeInvalidArgument, info, "unsupported contact"},
		UnsupportedIdentifier:   {"unsupportedIdentifier", http.StatusBadRequest, codeInvalidArgument, info, "unsupported identifier"},
		UserActionRequired:      {"userActionRequired", http.StatusForbidden, codeFailedPrecondition, info, "user action required"},
	}
	return table[k]
}
