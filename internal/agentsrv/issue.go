package agentsrv

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
	"github.com/certloom/certloom/internal/telemetry"
)

// issue makes the certificates of a call, all at once, so that they share the database's commits.
func (s *Server) issue(ctx context.Context, c *call, in *agentapi.IssueRequest) (*agentapi.IssueResponse, error) {
	items := in.GetItems()
	if len(items) == 0 || len(items) > agentapi.MaxItems {
		return nil, fault.New(fault.Malformed, "call has %d items, not 1 to %d", len(items), agentapi.MaxItems)
	}
	if !s.items.TryAcquire(int64(len(items))) {
		return nil, fault.New(fault.RateLimited, "too many certificates are being made; try again in a moment")
	}
	defer s.items.Release(int64(len(items)))
	s.metrics.inFlight.Add(float64(len(items)))
	defer s.metrics.inFlight.Sub(float64(len(items)))

	results := make([]*agentapi.Result, len(items))
	var wait sync.WaitGroup
	wait.Go(func() { s.touch(ctx, c) })
	for i, item := range items {
		wait.Go(func() { results[i] = s.item(ctx, c, item) })
	}
	wait.Wait()
	return &agentapi.IssueResponse{Results: results}, nil
}

// item makes one certificate, or says why not.
func (s *Server) item(ctx context.Context, c *call, item *agentapi.Item) *agentapi.Result {
	chain, err := guarded(ctx, c, func(ctx context.Context, c *call) ([][]byte, error) { return s.make(ctx, c, item) })
	if err == nil {
		s.metrics.items.WithLabelValues(codes.OK.String()).Inc()
		return &agentapi.Result{Chain: chain}
	}
	problem := trouble(ctx, err)
	meaning := problem.Kind.Meaning()
	s.metrics.items.WithLabelValues(codes.Code(meaning.Code).String()).Inc()
	if s.config.Logger.Enabled(ctx, meaning.Level) {
		s.config.Logger.LogAttrs(ctx, meaning.Level, "certificate for an agent not issued", append(c.attributes(),
			slog.String(telemetry.KeyStatus, codes.Code(meaning.Code).String()),
			slog.String(telemetry.KeyNamespace, item.GetCaller().GetNamespace()),
			slog.String(telemetry.KeyPod, item.GetCaller().GetPod()),
			slog.String(telemetry.KeyError, problem.Error()))...)
	}
	return &agentapi.Result{Code: meaning.Code, Message: problem.Public}
}

// maxLifetime keeps what an agent asks for within what a time.Duration holds. Profiles grant far less.
const maxLifetime = 100 * 365 * 24 * time.Hour

func (s *Server) make(ctx context.Context, c *call, item *agentapi.Item) ([][]byte, error) {
	workload, err := workloadOf(c.agent.cluster, item.GetCaller())
	if err != nil {
		return nil, err
	}
	parsed, err := csr.Parse(item.GetCsr())
	if err != nil {
		return nil, err
	}
	if err := checkCaller(parsed, &workload); err != nil {
		return nil, err
	}
	if workload.Presented, err = s.presented(ctx, item.GetCaller(), parsed, c.now); err != nil {
		s.refuseCaller(ctx, c, &parsed.Names, &workload, err)
		return nil, err
	}
	request := issue.Request{
		Profile: c.agent.profile, Credential: c.agent.credential, CSR: parsed, Workload: workload,
		Client: c.client, Actor: c.actor(), RequestID: c.id,
	}
	if request.Identifiers, err = policy.Requested(parsed); err != nil {
		return nil, err
	}
	if request.Order, err = orderOf(c.agent.credential.ID, item.GetId()); err != nil {
		return nil, err
	}
	switch seconds := item.GetLifetimeSeconds(); {
	case seconds < 0:
		return nil, fault.New(fault.Malformed, "lifetime of %d seconds is negative", seconds)
	case seconds > 0:
		request.NotAfter = c.now.Add(time.Duration(min(seconds, int64(maxLifetime/time.Second))) * time.Second)
	}
	made, err := s.config.Issuer.Issue(ctx, request)
	if err != nil {
		return nil, err
	}
	return s.config.Issuer.Chain(made, false)
}

// checkCaller compares what the agent says of the workload with the SPIFFE ID that the workload gets: the inventory must
// not tell two stories of one certificate. Whether the SPIFFE ID is allowed is policy's question.
func checkCaller(r *csr.Request, w *pki.Workload) error {
	for _, uri := range r.Names.URIs {
		id, err := pki.ParseSPIFFEID(uri)
		if err != nil {
			continue // policy says why not
		}
		if id.Namespace != w.Namespace || id.ServiceAccount != w.ServiceAccount {
			return fault.New(fault.Malformed, "caller is namespace %q, service account %q, but the CSR's SPIFFE ID is %q",
				w.Namespace, w.ServiceAccount, uri)
		}
	}
	return nil
}

// Lengths of what an agent says, those of Kubernetes where it has them.
const (
	maxCluster   = 63
	maxName      = 253
	maxUID       = 64
	maxProxy     = 3*maxName + 2 // three names with slashes between them
	minID, maxID = 16, 64
)

// workloadOf checks what the agent says of the workload. It is recorded and shown, so it must be short and printable.
// cluster is the agent's own.
func workloadOf(cluster string, caller *agentapi.Caller) (pki.Workload, error) {
	if caller.GetCluster() != "" {
		cluster = caller.GetCluster() // an agent serves several; its profile bounds what it may say of each
		if err := checkLabel("caller's cluster", cluster, maxCluster); err != nil {
			return pki.Workload{}, err
		}
	}
	w := pki.Workload{
		Cluster: cluster, Namespace: caller.GetNamespace(), ServiceAccount: caller.GetServiceAccount(), Pod: caller.GetPod(),
		PodUID: caller.GetPodUid(), Node: caller.GetNode(), ImpersonatedBy: caller.GetImpersonatedBy(),
	}
	for _, field := range []struct {
		name, value string
		most        int
	}{
		{"namespace", w.Namespace, maxName},
		{"service account", w.ServiceAccount, maxName},
		{"pod", w.Pod, maxName},
		{"pod UID", w.PodUID, maxUID},
		{"node", w.Node, maxName},
		{"impersonator", w.ImpersonatedBy, maxProxy},
	} {
		if field.value == "" {
			continue
		}
		if err := checkLabel("caller's "+field.name, field.value, field.most); err != nil {
			return pki.Workload{}, err
		}
	}
	return w, nil
}

// checkLabel refuses what is empty, long, or has other characters than Kubernetes' names, and the slash between them.
func checkLabel(what, value string, most int) error {
	if value == "" || len(value) > most {
		return fault.New(fault.Malformed, "%s %.80q has %d characters, not 1 to %d", what, value, len(value), most)
	}
	for i := range len(value) {
		if !labelCharacter(value[i]) && (value[i] != '/' || most != maxProxy) {
			return fault.New(fault.Malformed, "%s %.80q has character %q, which is not a letter, digit, dot, hyphen, underscore or colon",
				what, value, value[i])
		}
	}
	return nil
}

func labelCharacter(c byte) bool {
	switch c {
	case '.', '-', '_', ':':
		return true
	default:
		return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
	}
}

// orderOf makes an item's ID one that no other credential can use, and that no ACME order has.
func orderOf(credential pki.CredentialID, id string) (pki.OrderID, error) {
	if id == "" {
		return "", nil
	}
	if len(id) < minID {
		return "", fault.New(fault.Malformed, "item's ID %q has %d characters, less than %d", id, len(id), minID)
	}
	if err := checkLabel("item's ID", id, maxID); err != nil {
		return "", err
	}
	return pki.OrderID(fmt.Sprintf("%s.%s", credential, id)), nil
}
