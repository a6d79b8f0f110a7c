package api

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/telemetry"
)

// maxRevocations is how many certificates one call revokes.
const maxRevocations = 1000

// revokeCertificates revokes several, one after the other, each with its audit event. What has become of each is in
// the answer, also when something stops in the middle, and when the client has gone: what was begun is finished.
func (s *Server) revokeCertificates(ctx context.Context, in *struct{ body[apiv1.RevokeCertificates] }) (*output[apiv1.Revocations], error) {
	var found findings
	reason := found.reason(in.Body.Reason)
	serials := found.serials(in.Body.Serials)
	switch {
	case in.Body.Filter == nil && len(serials) == 0 && len(found) == 0:
		found.add("/serials", "name the certificates by their serials, or select them with a filter and the number that you expect")
	case in.Body.Filter != nil && len(in.Body.Serials) > 0:
		found.add("/filter", "certificates are named by serials or selected by a filter, not both")
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	if in.Body.Filter != nil {
		var err error
		if serials, err = s.selected(ctx, &in.Body); err != nil {
			return nil, err
		}
	}
	out := s.revokeEach(context.WithoutCancel(ctx), serials, reason)
	out.More = in.Body.Batch && len(serials) == maxRevocations
	return answer(out), nil
}

// reason reads the reason of a revocation.
func (f *findings) reason(name string) pki.RevocationReason {
	reason, known := reasons()[name]
	if name != "" && !known {
		f.add("/reason", "reason %.40q is not one of %s", name, strings.Join(slices.Sorted(maps.Keys(reasons())), ", "))
	}
	return reason
}

// serials reads a list of serials; one that is named twice counts once.
func (f *findings) serials(texts []string) []pki.Serial {
	if len(texts) > maxRevocations {
		f.add("/serials", "there are %d serials, more than %d", len(texts), maxRevocations)
		return nil
	}
	var serials []pki.Serial
	for i, text := range texts {
		serial, err := parseSerial(text, "/serials/"+strconv.Itoa(i))
		if err != nil {
			*f = append(*f, err)
			continue
		}
		if !slices.Contains(serials, serial) {
			serials = append(serials, serial)
		}
	}
	return serials
}

// selected finds the certificates of a filter that can be revoked. There must be as many as the caller expects: what he
// has not seen is not revoked. Of a batch the first ones are enough.
func (s *Server) selected(ctx context.Context, in *apiv1.RevokeCertificates) ([]pki.Serial, error) {
	selection, expected := in.Filter, in.Expected
	query := CertificateQuery{
		Text: selection.Text, Identity: selection.Identity, TrustDomain: selection.TrustDomain, Namespace: selection.Namespace,
		Profile: selection.Profile, IssuingCA: selection.IssuingCA, Credential: selection.Credential, Account: selection.Account,
		Cluster: selection.Cluster, Pod: selection.Pod,
	}
	if query == (CertificateQuery{}) {
		return nil, fault.New(fault.Malformed, "the filter selects nothing in particular; all certificates are not revoked at once").WithField("/filter")
	}
	filter, err := query.filter(ctx, s.config.Catalog.Snapshot())
	if err != nil {
		return nil, err
	}
	if in.Batch {
		return s.batch(ctx, filter)
	}
	filter.Limit = maxRevocations
	var serials []pki.Serial
	now := s.config.Now()
	for _, status := range []pki.CertificateStatus{pki.CertificateValid, pki.CertificateRenewalDue} {
		filter.Status, filter.Before = status, ""
		for {
			page, err := s.config.Store.Certificates(ctx, filter, now)
			if err != nil {
				return nil, err
			}
			for i := range page {
				serials = append(serials, page[i].Serial)
			}
			if len(serials) > maxRevocations {
				return nil, fault.New(fault.Malformed, "the filter selects more than %d certificates that can be revoked", maxRevocations).
					WithField("/filter").WithHint("narrow it, or revoke in several steps")
			}
			if len(page) < filter.Limit {
				break
			}
			filter.Before = page[len(page)-1].Serial
		}
	}
	if len(serials) != expected {
		return nil, fault.New(fault.Conflict, "the filter selects %d certificates that can be revoked, not %d", len(serials), expected).
			WithField("/expected").WithHint("list them again, and say how many you have seen")
	}
	return serials, nil
}

// batch finds the first certificates of a filter that can be revoked, those that are held among them.
func (s *Server) batch(ctx context.Context, filter pki.CertificateFilter) ([]pki.Serial, error) {
	var serials []pki.Serial
	now := s.config.Now()
	for _, status := range []pki.CertificateStatus{pki.CertificateValid, pki.CertificateRenewalDue, pki.CertificateHeld} {
		filter.Status, filter.Limit = status, maxRevocations-len(serials)
		if filter.Limit == 0 {
			break
		}
		page, err := s.config.Store.Certificates(ctx, filter, now)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].NotAfter.After(now) { // one that is held may have expired
				serials = append(serials, page[i].Serial)
			}
		}
	}
	return serials, nil
}

// revokeEach never fails as a whole. After a failure of ours it stops: the next one would fail as well.
func (s *Server) revokeEach(ctx context.Context, serials []pki.Serial, reason pki.RevocationReason) apiv1.Revocations {
	caller := auth.PrincipalOf(ctx)
	answer := apiv1.Revocations{Items: make([]apiv1.Revocation, 0, len(serials))}
	stopped := false
	for _, serial := range serials {
		result := apiv1.Revocation{Serial: string(serial), Outcome: apiv1.NotTried}
		if !stopped {
			result.Outcome, result.Detail, stopped = s.revokeOne(ctx, revoke.Request{
				Serial: serial, Reason: reason, Actor: caller.By().Actor, Client: caller.Client, RequestID: caller.Request,
			})
		}
		if result.Outcome == apiv1.Revoked {
			answer.Revoked++
		}
		answer.Items = append(answer.Items, result)
	}
	return answer
}

func (s *Server) revokeOne(ctx context.Context, request revoke.Request) (outcome, detail string, stop bool) {
	if _, err := s.config.Store.VisibleCertificate(ctx, request.Serial, auth.PrincipalOf(ctx).Sees); err != nil {
		return s.unrevoked(ctx, err)
	}
	if err := s.config.Revoker.Revoke(ctx, request); err != nil {
		return s.unrevoked(ctx, err)
	}
	return apiv1.Revoked, "", false
}

func (s *Server) unrevoked(ctx context.Context, err error) (outcome, detail string, stop bool) {
	switch {
	case fault.Is(err, fault.AlreadyRevoked):
		return apiv1.AlreadyRevoked, fault.From(err).Public, false
	case fault.Is(err, fault.NotFound):
		return apiv1.NotThere, fault.From(err).Public, false
	case fault.Is(err, fault.Unauthorized):
		return apiv1.Expired, fault.From(err).Public, false
	default:
		s.config.Logger.ErrorContext(ctx, "revocation of several stopped", telemetry.KeyRequest, auth.PrincipalOf(ctx).Request, telemetry.KeyError, err)
		return apiv1.Failed, fault.From(err).Public, true
	}
}
