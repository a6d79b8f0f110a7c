package api_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

func TestStatisticsOfNothing(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	got, err := w.Client(t, pki.RoleAdmin).Statistics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Identities.Total != 0 || len(got.LifetimeLeft) != len(pki.LeftClasses()) || len(got.ExpiresIn) != len(pki.EndClasses())+1 {
		t.Errorf("of nothing: %+v", got)
	}
	if len(got.Issued.PerMinute.Counts) != 60 || len(got.Issued.PerHour.Counts) != 24 || len(got.CAs) != 2 || got.Certificates.Alive != 0 {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	w.Issue(t, "web", testca.Request{DNS: []string{"a.example.com"}})
	w.Clock.Advance(2 * time.Hour)
	w.Issue(t, "web", testca.Request{DNS: []string{"b.example.com"}})
	w.Issue(t, "istio", testca.Request{URIs: []string{"spiffe://cluster.local/ns/shop/sa/cart"}})
	got, err := w.Client(t, pki.RoleAdmin).Statistics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := w.Clock.Now().UTC()
	if diff := cmp.Diff(apiv1.IdentityStatistics{Total: 3, OK: 3}, got.Identities); diff != "" {
		t.Errorf("identities:\n%s", diff)
	}
	if diff := cmp.Diff(&apiv1.CertificateCounts{Issued: 3, Alive: 3}, got.Certificates); diff != "" {
		t.Errorf("certificates:\n%s", diff)
	}
	minutes, hours := got.Issued.PerMinute, got.Issued.PerHour
	if got.Issued.LastHour != 2 || minutes.Counts[59] != 2 || !minutes.Start.Equal(now.Truncate(time.Minute).Add(-59*time.Minute)) || minutes.Step != "1m0s" {
		t.Errorf("minutes: %+v", minutes)
	}
	if hours.Counts[23] != 2 || hours.Counts[21] != 1 || !hours.Start.Equal(now.Truncate(time.Hour).Add(-23*time.Hour)) {
		t.Errorf("hours: %+v", hours)
	}
	if !got.At.Equal(now) || len(got.Clusters) != 0 || len(got.Lapsing) != 0 || got.CAs[0].NotAfter.IsZero() {
		t.Errorf("the rest: %+v", got)
	}
	alive := map[string]int64{}
	for _, ca := range got.CAs {
		alive[ca.Name] = ca.Alive
	}
	if diff := cmp.Diff(map[string]int64{"root": 0, "issuing": 3}, alive); diff != "" {
		t.Errorf("alive by CA:\n%s", diff)
	}
	sum := int64(0)
	for _, class := range got.LifetimeLeft {
		sum += class.Count
	}
	if diff := cmp.Diff(int64(3), sum); diff != "" {
		t.Errorf("lifetime left:\n%s", diff)
	}
}

// What is refused is counted by what was wrong.
func TestStatisticsOfRefusals(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	if _, err := w.ClientWith(t, "").Login(t.Context(), apiv1.Login{User: "admin", Password: rand.Text()}); err == nil {
		t.Fatal("a wrong password signs in")
	}
	got, err := w.Client(t, pki.RoleAdmin).Statistics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &apiv1.Refused{LastHour: 1, LastDay: 1, ByReason: []apiv1.RefusedReason{
		{Action: "login.refuse", Problem: "unauthorized", LastHour: 1, LastDay: 1},
	}}
	if diff := cmp.Diff(want, got.Refused, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("refused:\n%s", diff)
	}
}
