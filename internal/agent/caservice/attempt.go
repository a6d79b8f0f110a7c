package caservice

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// attempt is one call, with what is known of it so far, for the log.
type attempt struct {
	service *Service
	request *istio.IstioCertificateRequest

	caller   caller
	identity pki.SPIFFEID // what the certificate is for
	cause    error        // why it failed
}

// run does the steps of CreateCertificate.
func (a *attempt) run(ctx context.Context) (*istio.IstioCertificateResponse, error) {
	s := a.service
	began := s.config.Now()
	request, from, err := a.admit(ctx)
	if err != nil {
		return nil, authFailure(err)
	}
	issuing := s.config.Now()
	s.metrics.stage(stageAuthenticate, issuing.Sub(began))
	bundle := s.config.Issuer.Bundle()
	if bundle == nil {
		return nil, signFailure(fault.New(fault.Unavailable, "the trust bundle is not known yet"))
	}
	chain, err := s.config.Issuer.Issue(ctx, issuer.Request{
		CSR: request.Raw(), Lifetime: s.lifetime(a.request.GetValidityDuration()), Caller: from,
	})
	if err != nil {
		return nil, a.notIssued(request, err)
	}
	checking := s.config.Now()
	s.metrics.stage(stageIssue, checking.Sub(issuing))
	// The roots may have changed while the certificate was made: those that are current now count.
	bundle = s.config.Issuer.Bundle()
	want := issuer.Wanted{SPKI: request.SPKI(), Names: pki.Names{URIs: []string{a.identity.String()}}}
	if _, err := bundle.Check(chain, want, checking); err != nil {
		return nil, &problem{code: codes.Internal, sentence: notVerified, cause: err}
	}
	s.metrics.stage(stageCheck, s.config.Now().Sub(checking))
	return reply(chain, bundle), nil
}

// notIssued makes the answer to a caller whose certificate the issuer did not issue. A Verifier may have refused for the
// CSR's signature: the caller is told what it would have been told here.
func (a *attempt) notIssued(request *csr.Unverified, err error) *problem {
	if a.caller.certificate != nil && fault.Is(err, fault.Unauthenticated) {
		return authFailure(err) // its client certificate was revoked, say
	}
	answer := signFailure(err)
	if a.service.upstreamVerifies && (answer.code == codes.PermissionDenied || answer.code == codes.Internal) {
		if _, bad := request.Verify(); bad != nil {
			return authFailure(bad)
		}
	}
	return answer
}

// admit answers who calls, for which identity, and whether the CSR is for just that.
func (a *attempt) admit(ctx context.Context) (*csr.Unverified, issuer.Caller, error) {
	if err := a.authenticate(ctx); err != nil {
		return nil, issuer.Caller{}, err
	}
	from, err := a.beneficiary(ctx)
	if err != nil {
		return nil, issuer.Caller{}, err
	}
	request, err := readCSR(a.request.GetCsr(), a.identity.String())
	if err == nil && !a.service.upstreamVerifies {
		_, err = request.Verify()
	}
	return request, from, err
}

// jitterPart is by how much lifetimes differ: workloads that started together should not renew together.
const jitterPart = 0.1

// lifetime returns what is asked of the issuer when a caller asks for seconds.
func (s *Service) lifetime(seconds int64) time.Duration {
	longest := s.config.MaxLifetime
	lifetime := longest
	if seconds > 0 && seconds < int64(longest/time.Second) {
		lifetime = time.Duration(seconds) * time.Second
	}
	lifetime -= time.Duration(float64(lifetime) * jitterPart * s.config.Jitter())
	return max(lifetime.Truncate(time.Second), time.Second)
}

// reply lays the answer out as Istio's clients read it: one certificate for each element, the leaf first, and all roots
// in the last one. ztunnel reads only the first certificate of every element but the last.
func reply(chain [][]byte, bundle *issuer.Bundle) *istio.IstioCertificateResponse {
	elements := make([]string, 0, len(chain)+1)
	for _, der := range chain {
		elements = append(elements, encodePEM(der))
	}
	return &istio.IstioCertificateResponse{CertChain: append(elements, bundle.PEM)}
}

// maxLogged is how much the log gets of the name that a caller has for its cluster. The names that clusters can have are shorter.
const maxLogged = 200

// finish counts the call, logs it, and tells the Pod of a refusal.
func (a *attempt) finish(ctx context.Context, err error, took time.Duration) {
	s := a.service
	code := status.Code(err)
	s.metrics.finish(code, took, s.config.Now())
	if code == codes.Unauthenticated || code == codes.PermissionDenied {
		a.tell()
	}
	logger := s.config.Logger
	level := slog.LevelInfo
	switch code {
	case codes.OK, codes.Canceled:
		level = slog.LevelDebug
	case codes.Internal:
		level = slog.LevelError
	case codes.Unavailable, codes.ResourceExhausted:
		level = slog.LevelWarn
	default:
	}
	if !logger.Enabled(ctx, level) {
		return
	}
	attributes := []slog.Attr{
		slog.String(telemetry.KeyRequest, s.requestID()), slog.String(telemetry.KeyStatus, code.String()),
		slog.String(telemetry.KeyIdentity, a.named()), slog.String(telemetry.KeyPod, a.caller.pod()),
		slog.String(telemetry.KeyCluster, a.caller.cluster[:min(len(a.caller.cluster), maxLogged)]), slog.String(telemetry.KeyAddress, a.caller.address),
		slog.Duration(telemetry.KeyDuration, took),
	}
	if a.cause != nil {
		attributes = append(attributes, slog.Any(telemetry.KeyError, a.cause))
	}
	logger.LogAttrs(ctx, level, "certificate request", attributes...)
}

// requestID makes a name for a line of the log.
func (s *Service) requestID() string {
	var id [8]byte
	_, _ = io.ReadFull(s.config.Random, id[:]) // a line without a name is better than none
	return hex.EncodeToString(id[:])
}

// named returns the identity for which a certificate was asked, as far as it is known.
func (a *attempt) named() string {
	if a.identity != (pki.SPIFFEID{}) {
		return a.identity.String()
	}
	return strings.Join(a.caller.identities, ",")
}

// tell writes the reason of a refusal on the Pod that asked, if its token's signature was good.
func (a *attempt) tell() {
	subject := a.caller.subject
	if subject.Pod == "" || a.cause == nil || a.caller.home == nil {
		return
	}
	sentence := a.cause.Error()
	if known, ok := errors.AsType[*fault.Error](a.cause); ok {
		sentence = known.Public
	}
	a.caller.home.Tell(
		kube.Pod{Namespace: subject.Namespace, Name: subject.Pod, UID: subject.PodUID},
		"CertificateRefused", "Certificate request refused by certloom-agent: "+sentence,
	)
}
