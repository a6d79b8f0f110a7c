package certloom

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/fault"
)

// work sends what waits, again and again: one call alone goes at once, many go together.
func (i *Issuer) work(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-i.queue:
			i.send(ctx, i.gather(first))
		}
	}
}

// gather takes along what else waits now.
func (i *Issuer) gather(first *call) []*call {
	batch := []*call{first}
	for len(batch) < batchSize {
		select {
		case next := <-i.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// send sends a batch and tells everybody in it what became of theirs.
func (i *Issuer) send(ctx context.Context, batch []*call) {
	batch = slices.DeleteFunc(batch, func(c *call) bool { return c.ctx.Err() != nil })
	if len(batch) == 0 {
		return
	}
	i.metrics.batch.Observe(float64(len(batch)))
	request := &agentapi.IssueRequest{Items: make([]*agentapi.Item, len(batch))}
	for n, c := range batch {
		request.Items[n] = c.item
	}
	results, err := i.issue(ctx, request)
	if err != nil {
		i.metrics.count("failed", len(batch))
		for _, c := range batch {
			c.done <- outcome{err: err}
		}
		return
	}
	for n, c := range batch {
		chain, err := read(results[n])
		if err != nil {
			i.metrics.count("refused", 1)
		} else {
			i.metrics.count("issued", 1)
		}
		c.done <- outcome{chain: chain, err: err}
	}
}

// issue makes the call; once more when the connection broke, which the items' IDs make safe.
func (i *Issuer) issue(ctx context.Context, request *agentapi.IssueRequest) ([]*agentapi.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := i.link.Load().client.Issue(ctx, request)
	if status.Code(err) == codes.Unavailable {
		answer, err = i.link.Load().client.Issue(ctx, request)
	}
	if err != nil {
		return nil, i.explain(err)
	}
	i.contacted(nil)
	if len(answer.GetResults()) != len(request.GetItems()) {
		return nil, fault.New(fault.Internal, "the server answered %d requests of %d", len(answer.GetResults()), len(request.GetItems()))
	}
	return answer.GetResults(), nil
}

// explain notes why a whole call failed and says what that means for those who wait.
func (i *Issuer) explain(err error) error {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return fault.Wrap(err, fault.RateLimited, "the server is overloaded")
	case codes.Unauthenticated:
		// Our own certificate is not accepted any more; the workload is not at fault.
		select {
		case i.lost <- struct{}{}:
		default: // known already
		}
		i.contacted(err)
		return fault.Wrap(err, fault.Unavailable, "the server does not accept the agent's own certificate")
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		i.contacted(err)
		return fault.Wrap(err, fault.Unavailable, "the server cannot be reached")
	case codes.PermissionDenied, codes.FailedPrecondition:
		return fault.Wrap(err, fault.Unauthorized, "the server refuses this agent")
	default:
		return fault.Wrap(err, fault.Internal, "the server failed")
	}
}

// read reads the answer to one item.
func read(r *agentapi.Result) ([][]byte, error) {
	code := codes.Code(r.GetCode())
	if code == codes.OK {
		if len(r.GetChain()) == 0 {
			return nil, fault.New(fault.Internal, "the server answered without a certificate and without a reason")
		}
		return r.GetChain(), nil
	}
	reason := errors.New(code.String() + ": " + r.GetMessage())
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
		return nil, fault.Wrap(reason, fault.Unavailable, "the server cannot issue now")
	case codes.ResourceExhausted:
		return nil, fault.Wrap(reason, fault.RateLimited, "the server is overloaded")
	case codes.Unauthenticated:
		return nil, fault.Wrap(reason, fault.Unauthenticated, "the server does not accept the caller's client certificate")
	case codes.InvalidArgument, codes.PermissionDenied, codes.FailedPrecondition, codes.NotFound:
		return nil, fault.Wrap(reason, fault.Unauthorized, "the server's profile does not allow it")
	default:
		return nil, fault.Wrap(reason, fault.Internal, "the server failed")
	}
}
