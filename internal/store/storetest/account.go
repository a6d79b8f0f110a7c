package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func testAccounts(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	again := f.NewAccount(t, f.Account.Thumbprint)
	stored, created, err := s.CreateAccount(t.Context(), &again, 1, Event(audit.AccountCreate))
	check(t, err)
	equal(t, "account of the same key", &f.Account, stored)
	equal(t, "created", false, created)
	elsewhere := f.NewAccount(t, f.Account.Thumbprint)
	elsewhere.Scope, elsewhere.CredentialID = f.Profile.ID, ""
	_, created, err = s.CreateAccount(t.Context(), &elsewhere, 1, Event(audit.AccountCreate))
	check(t, err)
	equal(t, "created in another scope", true, created)

	got, err := s.Account(t.Context(), f.Account.ID)
	check(t, err)
	equal(t, "account", &f.Account, got)
	got, err = s.AccountByThumbprint(t.Context(), f.Profile.ID, f.Account.Thumbprint)
	check(t, err)
	equal(t, "account by key", &elsewhere, got)
	_, err = s.Account(t.Context(), "none")
	refused(t, err, fault.NotFound)
	_, err = s.AccountByThumbprint(t.Context(), "", "none")
	refused(t, err, fault.NotFound)

	check(t, s.UpdateAccountContact(t.Context(), f.Account.ID, nil, Event(audit.AccountUpdate)))
	check(t, s.DeactivateAccount(t.Context(), f.Account.ID, Event(audit.AccountDeactivate)))
	refused(t, s.DeactivateAccount(t.Context(), f.Account.ID, Event(audit.AccountDeactivate)), fault.AccountDeactivated)
	refused(t, s.UpdateAccountContact(t.Context(), f.Account.ID, nil, Event(audit.AccountUpdate)), fault.AccountDeactivated)
	refused(t, s.UpdateAccountContact(t.Context(), "none", nil, Event(audit.AccountUpdate)), fault.NotFound)
	got, err = s.Account(t.Context(), f.Account.ID)
	check(t, err)
	f.Account.Contact, f.Account.Status = nil, pki.StatusDeactivated
	equal(t, "deactivated account", &f.Account, got)
	equal(t, "events of updates", 1, countEvents(t, s, audit.AccountUpdate))
}

// parallel calls f n times at once and returns how many calls returned true.
func parallel(n int, f func(i int) bool) int {
	var wg sync.WaitGroup
	yes := make([]bool, n)
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			yes[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return n - len(slices.DeleteFunc(yes, func(b bool) bool { return b }))
}

func testAccountRace(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	var ids sync.Map
	created := parallel(24, func(int) bool {
		a := f.NewAccount(t, "racing")
		stored, created, err := s.CreateAccount(t.Context(), &a, 0, Event(audit.AccountCreate))
		if err != nil {
			t.Error(err)
			return false
		}
		ids.Store(stored.ID, true)
		return created
	})
	equal(t, "accounts created", 1, created)
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	equal(t, "different accounts returned", 1, n)
	equal(t, "events", 2, countEvents(t, s, audit.AccountCreate)) // with the fixture's
}

func testAccountLimit(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	created := parallel(24, func(i int) bool {
		a := f.NewAccount(t, fmt.Sprintf("limited-%d", i))
		_, created, err := s.CreateAccount(t.Context(), &a, 5, Event(audit.AccountCreate))
		if err != nil {
			refused(t, err, fault.Unauthorized)
		}
		return created
	})
	equal(t, "accounts created beside the fixture's", 4, created)
	check(t, s.DeactivateAccount(t.Context(), f.Account.ID, Event(audit.AccountDeactivate)))
	next := f.NewAccount(t, "after deactivation")
	_, ok, err := s.CreateAccount(t.Context(), &next, 5, Event(audit.AccountCreate))
	check(t, err)
	equal(t, "created after a deactivation", true, ok)
}

func testAccountKeyChange(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	other := f.NewAccount(t, "key-of-other")
	_, _, err := s.CreateAccount(t.Context(), &other, 0, Event(audit.AccountCreate))
	check(t, err)
	err = s.ChangeAccountKey(t.Context(), f.Account.ID, f.Account.Thumbprint, other.Thumbprint, nil, Event(audit.AccountKeyChange))
	refused(t, err, fault.Conflict)
	equal(t, "owner of the key", string(other.ID), fault.From(err).Location)
	err = s.ChangeAccountKey(t.Context(), f.Account.ID, "stale", "new", nil, Event(audit.AccountKeyChange))
	refused(t, err, fault.Conflict)
	equal(t, "location of a stale change", "", fault.From(err).Location)
	refused(t, s.ChangeAccountKey(t.Context(), "none", "a", "b", nil, Event(audit.AccountKeyChange)), fault.NotFound)

	won := parallel(8, func(i int) bool {
		err := s.ChangeAccountKey(t.Context(), f.Account.ID, f.Account.Thumbprint, fmt.Sprintf("new-%d", i), []byte("{}"),
			Event(audit.AccountKeyChange))
		if err != nil {
			refused(t, err, fault.Conflict)
		}
		return err == nil
	})
	equal(t, "changes of one key", 1, won)
	equal(t, "events", 1, countEvents(t, s, audit.AccountKeyChange))
	_, err = s.AccountByThumbprint(t.Context(), "", f.Account.Thumbprint)
	refused(t, err, fault.NotFound)
}

func testOrders(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example", "b.example")
	check(t, s.CreateOrder(t.Context(), o, Event(audit.OrderCreate)))
	got, err := s.Order(t.Context(), o.ID)
	check(t, err)
	equal(t, "order", o, got)
	bare := f.NewOrder(t, Now())
	bare.Challenges = nil
	check(t, s.CreateOrder(t.Context(), bare, Event(audit.OrderCreate)))
	got, err = s.Order(t.Context(), bare.ID)
	check(t, err)
	equal(t, "order without identifiers", bare, got)
	_, err = s.Order(t.Context(), "none")
	refused(t, err, fault.NotFound)
}

// proofOf returns a proof of one of an order's names, by http-01.
func proofOf(o *pki.Order, index int, status pki.ACMEStatus) pki.Proof {
	return pki.Proof{
		OrderID: o.ID, AccountID: o.AccountID, Index: index, Name: o.Identifiers[index].Value, Type: "http-01",
		Status: status, At: Now(), Expires: o.Expires,
	}
}

func proofs(t *testing.T, s *store.Store, o *pki.Order, want ...pki.Proof) {
	t.Helper()
	got, err := s.Proofs(t.Context(), o.ID)
	check(t, err)
	equal(t, "proofs", want, got)
}

func testProofs(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example", "b.example", "c.example")
	proofs(t, s, o)
	const lease = time.Minute
	start := func(after time.Duration, kind string, want bool) {
		t.Helper()
		p := proofOf(o, 0, "")
		p.At, p.Type = p.At.Add(after), kind
		started, err := s.StartProof(t.Context(), p, lease)
		check(t, err)
		equal(t, "started", want, started)
	}
	equal(t, "starts of one proof", 1, parallel(8, func(int) bool {
		started, err := s.StartProof(t.Context(), proofOf(o, 0, ""), lease)
		return err == nil && started
	}))
	start(lease-time.Second, "http-01", false)
	start(lease-time.Second, "dns-01", false)
	start(lease, "dns-01", true) // its validator must be dead
	started := proofOf(o, 0, pki.StatusProcessing)
	started.At, started.Type = Now().Add(lease), "dns-01"
	proofs(t, s, o, started)

	valid, unstarted := proofOf(o, 0, pki.StatusValid), proofOf(o, 2, pki.StatusValid)
	valid.At = Now().Add(2 * time.Minute)
	asked := valid
	won := parallel(8, func(i int) bool {
		p := asked
		if i%2 == 1 {
			p.Status, p.Error = pki.StatusInvalid, &pki.Problem{Type: "x", Detail: "y"}
		}
		err := s.FinishProof(t.Context(), p, Event(audit.AuthorizationValid))
		if err != nil {
			refused(t, err, fault.Conflict)
			return false
		}
		valid = p // only one comes here
		return true
	})
	equal(t, "results of one proof", 1, won)
	check(t, s.FinishProof(t.Context(), unstarted, Event(audit.AuthorizationValid))) // nothing has to be noted before
	start(time.Hour, "http-01", false)
	proofs(t, s, o, valid, unstarted)
	equal(t, "events", 2, countEvents(t, s, audit.AuthorizationValid))
	if err := s.FinishProof(t.Context(), started, Event(audit.AuthorizationValid)); err == nil {
		t.Error("a proof ended in processing")
	}
}

func testFailedProof(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example")
	failed := proofOf(o, 0, pki.StatusInvalid)
	failed.Error = &pki.Problem{Type: "urn:ietf:params:acme:error:connection", Detail: "nobody there", Status: 400}
	check(t, s.FinishProof(t.Context(), failed, Event(audit.AuthorizationInvalid)))
	refused(t, s.FinishProof(t.Context(), proofOf(o, 0, pki.StatusValid), Event(audit.AuthorizationValid)), fault.Conflict)
	refused(t, s.DeactivateAuthorization(t.Context(), failed, Event(audit.AuthorizationDrop)), fault.Conflict)
	proofs(t, s, o, failed)
	equal(t, "events", 0, countEvents(t, s, audit.AuthorizationDrop)+countEvents(t, s, audit.AuthorizationValid))
}

func testDeactivations(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example", "b.example", "c.example")
	check(t, s.FinishProof(t.Context(), proofOf(o, 1, pki.StatusValid), Event(audit.AuthorizationValid)))
	_, err := s.StartProof(t.Context(), proofOf(o, 2, ""), time.Minute)
	check(t, err)
	var want []pki.Proof
	for i, status := range []pki.ACMEStatus{"", pki.StatusValid, pki.StatusProcessing} {
		p := proofOf(o, i, status)
		for range 2 {
			check(t, s.DeactivateAuthorization(t.Context(), p, Event(audit.AuthorizationDrop)))
		}
		if p.Deactivated = true; status == "" {
			p.Type = ""
		}
		want = append(want, p)
	}
	refused(t, s.FinishProof(t.Context(), proofOf(o, 0, pki.StatusValid), Event(audit.AuthorizationValid)), fault.Conflict)
	refused(t, s.FinishProof(t.Context(), proofOf(o, 2, pki.StatusValid), Event(audit.AuthorizationValid)), fault.Conflict)
	proofs(t, s, o, want...)
	equal(t, "events", 3, countEvents(t, s, audit.AuthorizationDrop))
}

func testProvedNames(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	older, newer := f.NewOrder(t, Now(), "a.example", "b.example", "gone.example", "bad.example"), f.NewOrder(t, Now().Add(time.Hour), "*.c.example")
	prove := func(o *pki.Order, index int, status pki.ACMEStatus) {
		t.Helper()
		check(t, s.FinishProof(t.Context(), proofOf(o, index, status), Event(audit.AuthorizationValid)))
	}
	for i := range 3 {
		prove(older, i, pki.StatusValid)
	}
	prove(older, 3, pki.StatusInvalid)
	prove(newer, 0, pki.StatusValid)
	check(t, s.DeactivateAuthorization(t.Context(), proofOf(older, 2, ""), Event(audit.AuthorizationDrop)))
	ask := func(account pki.AccountID, now time.Time, limit int, want ...string) {
		t.Helper()
		got, err := s.ProvedNames(t.Context(), account, now, limit)
		check(t, err)
		slices.Sort(got)
		equal(t, "names", want, got)
	}
	ask(f.Account.ID, older.Expires, 10, "*.c.example", "a.example", "b.example")
	ask(f.Account.ID, older.Expires, 1, "*.c.example")
	ask(f.Account.ID, older.Expires.Add(time.Second), 10, "*.c.example")
	ask("none", Now(), 10)
}

func testAccountOrders(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	var want []pki.OrderID // newest first
	for i := range 6 {
		at := Now().Add(time.Duration(i) * time.Minute)
		if i%2 == 0 {
			c := f.NewCertificate(t, "web.example.com", at)
			f.Record(t, c)
			want = append([]pki.OrderID{c.OrderID}, want...)
			continue
		}
		o := f.NewOrder(t, at, "a.example")
		check(t, s.CreateOrder(t.Context(), o, Event(audit.OrderCreate)))
		c := f.NewCertificate(t, "a.example", at)
		c.OrderID = o.ID
		f.Record(t, c)
		want = append([]pki.OrderID{o.ID}, want...)
	}
	other := f.NewAccount(t, "other")
	_, _, err := s.CreateAccount(t.Context(), &other, 0, Event(audit.AccountCreate))
	check(t, err)
	c := f.NewCertificate(t, "web.example.com", Now())
	c.AccountID = other.ID
	f.Record(t, c)

	var got []pki.OrderID
	for before := pki.OrderID(""); ; {
		page, err := s.AccountOrders(t.Context(), f.Account.ID, before, 4)
		check(t, err)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		before = page[len(page)-1]
	}
	equal(t, "orders", want, got)
}

func testExpiredOrders(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	abandoned, finished := f.NewOrder(t, Now(), "a.example"), f.NewOrder(t, Now(), "b.example")
	later := f.NewOrder(t, Now().Add(time.Hour), "c.example")
	for _, o := range []*pki.Order{abandoned, finished, later} {
		check(t, s.CreateOrder(t.Context(), o, Event(audit.OrderCreate)))
	}
	c := f.NewCertificate(t, "b.example", Now())
	c.OrderID = finished.ID
	f.Record(t, c)
	for _, o := range []*pki.Order{abandoned, later} {
		check(t, s.FinishProof(t.Context(), proofOf(o, 0, pki.StatusValid), Event(audit.AuthorizationValid)))
	}
	n, err := s.DeleteExpiredOrders(t.Context(), abandoned.Expires.Add(time.Second), 10)
	check(t, err)
	equal(t, "deleted, with a proof, and looked at", 3, n)
	n, err = s.DeleteExpiredOrders(t.Context(), abandoned.Expires.Add(time.Second), 10)
	check(t, err)
	equal(t, "deleted again", 0, n)
	_, err = s.Order(t.Context(), abandoned.ID)
	refused(t, err, fault.NotFound)
	proofs(t, s, abandoned)
	proofs(t, s, later, proofOf(later, 0, pki.StatusValid))
	for _, o := range []*pki.Order{finished, later} {
		_, err = s.Order(t.Context(), o.ID)
		check(t, err)
	}
}
