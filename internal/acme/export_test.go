package acme

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// What the tests of the package reach into.

func EncodeOrder(o *pki.Order) []byte { return encodeOrder(o) }

func DecodeOrder(plain []byte) (*pki.Order, error) { return decodeOrder(plain) }

func EncodeChain(chain [][]byte) []byte { return encodeChain(chain) }

func CheckContact(contact []string) error { return checkContact(contact) }

func RenewalWindow(c *pki.Certificate) (start, end time.Time) { return window(c) }

// Admission is admission.
type Admission struct{ inner *admission }

func NewAdmission(places int, wait time.Duration) Admission {
	return Admission{newAdmission(places, wait)}
}

func (a Admission) Enter(ctx context.Context) (func(), error) { return a.inner.enter(ctx) }

// Quota is quota.
type Quota struct{ inner *quota }

func NewQuota(perMinute int, now func() time.Time) (Quota, error) {
	q, err := newQuota(perMinute, now)
	return Quota{q}, err
}

func (q Quota) Take(id pki.AccountID) (func(), error) { return q.inner.take(id) }

// Detached is detached.
type Detached struct{ inner *detached }

func NewDetached(places int, broken func(context.Context, any)) Detached {
	return Detached{newDetached(places, broken)}
}

func (d Detached) Start(ctx context.Context, name string, work func(context.Context)) (bool, error) {
	return d.inner.start(ctx, name, work)
}

func (d Detached) Drain() { d.inner.drain() }

// Sweep removes expired orders, as Run does every minute.
func Sweep(ctx context.Context, s *Server) error { return s.sweepAll(ctx) }
