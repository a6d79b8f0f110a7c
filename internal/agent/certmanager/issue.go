package certmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
)

// Issue implements issuer.Issuer. It fails at once with fault.Unavailable while there is no issuer that is ready, the API
// server cannot be reached or requests are not decided, and with fault.RateLimited when too many wait already.
func (i *Issuer) Issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	if err := i.admit(); err != nil {
		i.metrics.count("failed")
		return nil, err
	}
	leave, err := i.queue.Enter(ctx)
	if err != nil {
		i.metrics.count("queue_full")
		return nil, err
	}
	defer leave()
	chain, err := i.issue(ctx, r)
	i.metrics.count(outcomeOf(err))
	return chain, err
}

func outcomeOf(err error) string {
	if err == nil {
		return "issued"
	}
	switch fault.From(err).Kind {
	case fault.Unavailable, fault.Internal, fault.RateLimited:
		return "failed"
	default:
		return "refused"
	}
}

func (i *Issuer) admit() error {
	if err := i.usable(); err != nil {
		return fault.Wrap(err, fault.Unavailable, "certificates cannot be had from cert-manager now")
	}
	return nil
}

func (i *Issuer) issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	if err := i.admit(); err != nil {
		return nil, err // it has become known while we waited
	}
	object, err := i.newRequest(r)
	if err != nil {
		return nil, err
	}
	name := object.GetName()
	decided := i.waiters.add(name)
	defer i.waiters.remove(name)
	if err := i.create(ctx, object); err != nil {
		return nil, err
	}
	result, err := i.await(ctx, name, decided)
	if !i.gate.isCanary(name) {
		i.discard(name)
	}
	if err != nil {
		return nil, err
	}
	return i.read(result)
}

// create makes the request. Its name is ours, so that one whose creation was not answered can be deleted too.
func (i *Issuer) create(ctx context.Context, object *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err := i.requests.Create(ctx, object, metav1.CreateOptions{})
	if err == nil {
		return nil
	}
	if !final(err) {
		i.discard(object.GetName()) // it may be there
		i.target.look()             // others are to know at once that the API server is gone
	}
	return explainAPI(err)
}

// final reports whether the API server has said that it has not made the object.
func final(err error) bool {
	switch code := apierrors.ReasonForError(err); code {
	case metav1.StatusReasonUnknown, metav1.StatusReasonTimeout, metav1.StatusReasonServerTimeout, metav1.StatusReasonInternalError,
		metav1.StatusReasonServiceUnavailable:
		return false
	default:
		return true
	}
}

// explainAPI says what the API server's answer means for the one who waits for the certificate.
func explainAPI(err error) *fault.Error {
	switch {
	case apierrors.IsTooManyRequests(err):
		e := fault.Wrap(err, fault.RateLimited, "the API server is overloaded")
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			e.RetryAfter = time.Duration(seconds) * time.Second
		}
		return e
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		// Admission has decided, or the agent lacks the permission: the log has which.
		return fault.Wrap(err, fault.Unauthorized, "the API server refuses the CertificateRequest")
	case apierrors.IsNotFound(err):
		return fault.Wrap(err, fault.Unavailable, "CertificateRequests or their namespace do not exist")
	default:
		return fault.Wrap(err, fault.Unavailable, "the API server cannot be asked for a CertificateRequest")
	}
}

// await waits until the request is decided, there is no hope that it will be, or the caller's time is over.
func (i *Issuer) await(ctx context.Context, name string, decided <-chan result) (result, error) {
	began := i.config.Now()
	silence := time.NewTimer(stall)
	defer silence.Stop()
	for {
		select {
		case r := <-decided:
			return r, nil
		case <-silence.C:
			if i.waiters.touched(name) {
				continue // the timer has fired for good: signing may take as long as the caller waits
			}
			closed, wait, release := i.gate.untouched(name, began)
			i.discard(release)
			if closed {
				return result{}, fault.New(fault.Unavailable, "cert-manager has not touched a CertificateRequest for %s", stall)
			}
			silence.Reset(wait)
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return result{}, fault.Wrap(context.Cause(ctx), fault.Unavailable, "the caller has left")
			}
			_, release := i.gate.undecided(name, i.config.Now().Sub(began))
			i.discard(release)
			return result{}, fault.Wrap(context.Cause(ctx), fault.Unavailable, "the CertificateRequest was not decided in time")
		}
	}
}

// read makes a chain of what was decided.
func (i *Issuer) read(r result) ([][]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	chain, err := issuer.ReadChain(r.certificate)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "status.certificate of the CertificateRequest cannot be read")
	}
	if i.learned == nil {
		return chain, nil
	}
	switch {
	case len(r.ca) > 0:
		err = i.learned.note(r.ca, chain)
	case i.learned.bundle.Load() == nil:
		err = errors.New("status.ca is empty, as with ACME issuers: --root-ca-file is needed")
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the CertificateRequest does not tell the CA")
	}
	return chain, nil
}

// followRequests hands out what becomes of our requests, until ctx ends.
func (i *Issuer) followRequests(ctx context.Context) error {
	return i.follow(ctx, follower{
		client: i.requests, what: "CertificateRequests in " + i.config.Namespace,
		options: metav1.ListOptions{LabelSelector: labelInstance + "=" + i.instance},
		listed: func(objects []unstructured.Unstructured) {
			gone := i.gate.canaryName()
			for at := range objects {
				if objects[at].GetName() == gone {
					gone = ""
				}
				i.changed(&objects[at])
			}
			i.discard(i.gate.saw(gone, false, false, true))
		},
		changed: i.changed,
		deleted: func(object *unstructured.Unstructured) {
			name := object.GetName()
			i.waiters.deliver(name, result{err: fault.New(fault.Unavailable, "the CertificateRequest was deleted before it was decided")})
			i.discard(i.gate.saw(name, false, false, true))
		},
		state: func(err error) {
			if err != nil {
				err = fmt.Errorf("CertificateRequests are not watched: %w", err)
			}
			i.watching.Store(&outcome{err})
		},
	})
}

func (i *Issuer) changed(object *unstructured.Unstructured) {
	r, touched, decided := judge(object)
	i.discard(i.gate.saw(object.GetName(), touched, decided, false))
	if touched {
		i.waiters.touch(object.GetName())
	}
	if decided {
		i.waiters.deliver(object.GetName(), r)
	}
}
