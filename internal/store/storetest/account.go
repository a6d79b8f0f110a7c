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
	a, err := s.Authorization(t.Context(), o.Authorizations[1].ID)
	check(t, err)
	equal(t, "authorization", &o.Authorizations[1], a)
	large := f.NewOrder(t, Now())
	check(t, s.CreateOrder(t.Context(), large, Event(audit.OrderCreate)))
	got, err = s.Order(t.Context(), large.ID)
	check(t, err)
	equal(t, "order without authorizations", large, got)
	_, err = s.Order(t.Context(), "none")
	refused(t, err, fault.NotFound)
	_, err = s.Authorization(t.Context(), "none")
	refused(t, err, fault.NotFound)
}

func testChallenges(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example")
	check(t, s.CreateOrder(t.Context(), o, Event(audit.OrderCreate)))
	first, second := o.Authorizations[0].Challenges[0].ID, o.Authorizations[0].Challenges[1].ID
	const lease = time.Minute
	start := func(id pki.ChallengeID, at time.Time, want bool) {
		t.Helper()
		started, err := s.StartChallenge(t.Context(), id, at, lease)
		check(t, err)
		equal(t, "started", want, started)
	}
	equal(t, "starts of one challenge", 1, parallel(8, func(int) bool {
		started, err := s.StartChallenge(t.Context(), first, Now(), lease)
		return err == nil && started
	}))
	start(first, Now().Add(lease-time.Second), false)
	start(first, Now().Add(lease), true) // its validator must be dead
	_, err := s.StartChallenge(t.Context(), "none", Now(), lease)
	refused(t, err, fault.NotFound)

	valid := pki.Challenge{Status: pki.StatusValid, ValidatedAt: Now().Add(time.Minute)}
	expires := Now().Add(24 * time.Hour)
	_, err = s.FinishChallenge(t.Context(), second, valid, expires, Event(audit.AuthorizationValid))
	refused(t, err, fault.Conflict) // it is not processing
	a, err := s.FinishChallenge(t.Context(), first, valid, expires, Event(audit.AuthorizationValid))
	check(t, err)
	want := o.Authorizations[0]
	want.Status, want.Expires = pki.StatusValid, expires
	want.Challenges = slices.Clone(want.Challenges)
	want.Challenges[0].Status, want.Challenges[0].ValidatedAt = pki.StatusValid, valid.ValidatedAt
	equal(t, "authorization", &want, a)
	_, err = s.FinishChallenge(t.Context(), first, valid, expires, Event(audit.AuthorizationValid))
	refused(t, err, fault.Conflict)
	start(second, Now(), false) // the authorization has ended
	equal(t, "events", 1, countEvents(t, s, audit.AuthorizationValid))
	_, err = s.FinishChallenge(t.Context(), "none", valid, expires, Event(audit.AuthorizationValid))
	refused(t, err, fault.NotFound)
}

func testFailedChallenge(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example", "b.example")
	check(t, s.CreateOrder(t.Context(), o, Event(audit.OrderCreate)))
	for i, detail := range []string{"first failure", "second failure"} {
		id := o.Authorizations[i].Challenges[0].ID
		_, err := s.StartChallenge(t.Context(), id, Now(), time.Minute)
		check(t, err)
		problem := &pki.Problem{Type: "urn:ietf:params:acme:error:connection", Detail: detail, Status: 400}
		a, err := s.FinishChallenge(t.Context(), id, pki.Challenge{Status: pki.StatusInvalid, ValidatedAt: Now(), Error: problem},
			Now(), Event(audit.AuthorizationInvalid))
		check(t, err)
		equal(t, "status", pki.StatusInvalid, a.Status)
		equal(t, "error of the challenge", problem, a.Challenges[0].Error)
	}
	got, err := s.Order(t.Context(), o.ID)
	check(t, err)
	equal(t, "error of the order", "first failure", got.Error.Detail)
	_, err = s.FinishChallenge(t.Context(), o.Authorizations[0].Challenges[0].ID, pki.Challenge{Status: pki.StatusPending}, Now(),
		Event(audit.AuthorizationInvalid))
	if err == nil {
		t.Error("a challenge ended pending")
	}
}

func testAuthorizations(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	o := f.NewOrder(t, Now(), "a.example", "b.example")
	check(t, s.CreateOrder(t.Context(), o, Event(audit.OrderCreate)))
	id := o.Authorizations[0].ID
	for range 2 {
		check(t, s.DeactivateAuthorization(t.Context(), id, Event(audit.AuthorizationDrop)))
	}
	a, err := s.Authorization(t.Context(), id)
	check(t, err)
	equal(t, "status", pki.StatusDeactivated, a.Status)
	refused(t, s.DeactivateAuthorization(t.Context(), "none", Event(audit.AuthorizationDrop)), fault.NotFound)
	started, err := s.StartChallenge(t.Context(), o.Authorizations[0].Challenges[0].ID, Now(), time.Minute)
	check(t, err)
	equal(t, "started", false, started)

	const sealed = pki.OrderID("sealed-order")
	for _, index := range []int{3, 0, 3} {
		check(t, s.DeactivateSealedAuthorization(t.Context(), sealed, index, Now().Add(time.Hour), Event(audit.AuthorizationDrop)))
	}
	indexes, err := s.SealedDeactivations(t.Context(), sealed)
	check(t, err)
	equal(t, "deactivated", []int{0, 3}, indexes)
	equal(t, "events", 3, countEvents(t, s, audit.AuthorizationDrop))
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
	n, err := s.DeleteExpiredOrders(t.Context(), abandoned.Expires.Add(time.Second), 10)
	check(t, err)
	equal(t, "deleted", 1, n)
	n, err = s.DeleteExpiredOrders(t.Context(), abandoned.Expires.Add(time.Second), 10)
	check(t, err)
	equal(t, "deleted again", 0, n)
	_, err = s.Order(t.Context(), abandoned.ID)
	refused(t, err, fault.NotFound)
	_, err = s.Authorization(t.Context(), abandoned.Authorizations[0].ID)
	refused(t, err, fault.NotFound)
	for _, o := range []*pki.Order{finished, later} {
		_, err = s.Order(t.Context(), o.ID)
		check(t, err)
	}
}
