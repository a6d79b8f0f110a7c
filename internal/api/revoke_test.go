package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// workloads issues certificates for some service accounts of namespace demo and returns their serials.
func workloads(t *testing.T, w *apitest.World, n int) []string {
	t.Helper()
	var serials []string
	for i := range n {
		id := fmt.Sprintf("spiffe://cluster.local/ns/demo/sa/w%d", i)
		serials = append(serials, string(w.Issue(t, "ci", testca.Request{URIs: []string{id}}).Serial))
	}
	return serials
}

func outcomes(answer *apiv1.Revocations) []string {
	var list []string
	for _, item := range answer.Items {
		list = append(list, item.Serial+" "+item.Outcome)
	}
	return list
}

func TestRevokeSeveral(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	expired := workloads(t, w, 1)[0]
	w.Clock.Advance(120 * 24 * time.Hour)
	serials := workloads(t, w, 3)
	if _, err := client.RevokeCertificate(ctx, serials[1], apiv1.RevokeCertificate{}); err != nil {
		t.Fatal(err)
	}
	asked := []string{serials[0], strings.ToUpper(serials[0]), serials[1], "0123", expired, serials[2]}
	answer, err := client.RevokeCertificates(ctx, apiv1.RevokeCertificates{Reason: "superseded", Serials: asked})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{serials[0] + " revoked", serials[1] + " already-revoked", "0123 not-found", expired + " expired", serials[2] + " revoked"}
	if diff := cmp.Diff(want, outcomes(answer)); diff != "" || answer.Revoked != 2 {
		t.Errorf("%d revoked (-want +got):\n%s", answer.Revoked, diff)
	}
	events := w.Events(t, "certificate.revoke")
	if len(events) != 3 || events[0].Target != serials[2] || events[1].Target != serials[0] || events[0].Request != events[1].Request {
		t.Errorf("events %+v", events)
	}
	for _, serial := range []string{serials[0], serials[2]} {
		if c, err := client.Certificate(ctx, serial); err != nil || c.RevocationReason != "superseded" {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

func TestRevokeSelected(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	serials := workloads(t, w, 12) // w1, w10 and w11 begin alike
	selection := &apiv1.CertificateSelection{Identity: "spiffe://cluster.local/ns/demo/sa/w1*"}
	_, err := client.RevokeCertificates(ctx, apiv1.RevokeCertificates{Filter: selection, Expected: 2})
	problem, ok := errors.AsType[*apiv1.Problem](err)
	if !ok || problem.Status != http.StatusConflict || !strings.Contains(problem.Detail, "selects 3 certificates") {
		t.Errorf("another number: %v", err)
	}
	if n := len(w.Events(t, "certificate.revoke")); n != 0 {
		t.Fatalf("%d revoked", n)
	}
	answer, err := client.RevokeCertificates(ctx, apiv1.RevokeCertificates{Filter: selection, Expected: 3})
	if err != nil || answer.Revoked != 3 {
		t.Fatalf("%+v, %v", answer, err)
	}
	got := outcomes(answer)
	slices.Sort(got)
	want := []string{serials[1] + " revoked", serials[10] + " revoked", serials[11] + " revoked"}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusesRevocationsOfSeveral(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	for name, tt := range map[string]struct {
		body   string
		fields []string
	}{
		"refuses/nothing":          {`{}`, []string{"/serials"}},
		"refuses/both":             {`{"serials":["01"],"filter":{"namespace":"demo"}}`, []string{"/filter"}},
		"refuses/no-serial":        {`{"serials":["xyz","01"]}`, []string{"/serials/0"}},
		"refuses/reason":           {`{"serials":["xyz"],"reason":"boredom"}`, []string{"/reason", "/serials/0"}},
		"refuses/everything":       {`{"filter":{},"expected":0}`, []string{"/filter"}},
		"refuses/too-many":         {`{"serials":[` + strings.Repeat(`"01",`, 1000) + `"02"]}`, []string{"/serials"}},
		"refuses/unknown-profile":  {`{"filter":{"profile":"none"},"expected":1}`, nil},
		"refuses/unknown-selector": {`{"filter":{"serial":"01"},"expected":1}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodPost, "/certificates/revoke", w.Tokens[pki.RoleAdmin], strings.NewReader(tt.body), nil)
			if answer.Status != http.StatusBadRequest {
				t.Fatalf("%d %s", answer.Status, answer.Body)
			}
			for _, field := range tt.fields {
				if !strings.Contains(string(answer.Body), `"`+field+`"`) {
					t.Errorf("%s lacks %s", answer.Body, field)
				}
			}
		})
	}
}
