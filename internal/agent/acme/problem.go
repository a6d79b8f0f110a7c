package acme

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/fault"
)

const statusBusy = http.StatusServiceUnavailable

// statusOf returns the HTTP status of a CA's refusal, 0 for other errors.
func statusOf(err error) int {
	if refusal, ok := errors.AsType[*acmeclient.Problem](err); ok {
		return refusal.Status
	}
	return 0
}

// refused reports whether the CA has understood the request and does not want it.
func refused(err error) bool {
	status := statusOf(err)
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError
}

// aboutAccount reports whether a refusal may be about the account and not about what it ordered. Some CAs say
// "unauthorized" for both, so it takes an order that should be granted to know.
func aboutAccount(err error) bool {
	refusal, ok := errors.AsType[*acmeclient.Problem](err)
	return ok && slices.Contains([]string{
		"accountDoesNotExist", "unauthorized", "externalAccountRequired", "userActionRequired", "invalidProfile",
	}, refusal.Kind())
}

// explain says what an error means for the one who waits for the certificate.
func explain(ctx context.Context, err error) *fault.Error {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return known
	}
	refusal, ok := errors.AsType[*acmeclient.Problem](err)
	switch {
	case ok:
		return explainProblem(err, refusal)
	case ctx.Err() != nil:
		return fault.Wrap(err, fault.Unavailable, "the ACME CA did not answer in time")
	case acmeclient.Unreachable(err):
		return fault.Wrap(err, fault.Unavailable, "the ACME CA cannot be reached")
	default:
		return fault.Wrap(err, fault.Internal, "the ACME CA's answer has no sense")
	}
}

func explainProblem(err error, refusal *acmeclient.Problem) *fault.Error {
	var explained *fault.Error
	switch {
	case refusal.Status == http.StatusTooManyRequests, refusal.Kind() == "rateLimited",
		refusal.Status == statusBusy && refusal.RetryAfter > 0:
		explained = fault.Wrap(err, fault.RateLimited, "the ACME CA is overloaded")
		explained.RetryAfter = refusal.RetryAfter
	case refusal.Kind() == "accountDoesNotExist", refusal.Kind() == "unauthorized" && refusal.Status == http.StatusUnauthorized:
		// Ours to mend; the workload is not at fault.
		explained = fault.Wrap(err, fault.Unavailable, "the ACME CA does not accept the agent's account")
	case refusal.Kind() == "badNonce", refusal.Kind() == "serverInternal", refusal.Status >= http.StatusInternalServerError:
		explained = fault.Wrap(err, fault.Unavailable, "the ACME CA cannot issue now")
	default:
		explained = fault.Wrap(err, fault.Unauthorized, "the ACME CA refuses the order")
	}
	return explained
}
