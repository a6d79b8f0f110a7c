package api_test

import (
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

func csrPEM(t *testing.T, r testca.Request) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: testca.CSR(t, r)}))
}

func TestRequestCertificate(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleRequester)
	made, err := client.CreateCertificate(ctx, apiv1.CreateCertificate{
		Profile: "ci", CSR: csrPEM(t, testca.Request{URIs: []string{testca.SPIFFE}, DNS: []string{"web.demo.svc"}}), Validity: "2h",
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificateOf(t, made.PEM)
	if leaf.URIs[0].String() != testca.SPIFFE || leaf.NotAfter.Sub(w.Clock.Now()) != 2*time.Hour {
		t.Errorf("certificate %v until %s", leaf.URIs, leaf.NotAfter)
	}
	if err := leaf.CheckSignatureFrom(certificateOf(t, made.ChainPEM)); err != nil {
		t.Error(err)
	}
	if strings.Count(made.ChainPEM, "BEGIN") != 1 {
		t.Error("the chain is not the issuing CA alone")
	}
	got, err := w.Client(t, pki.RoleAuditor).Certificate(ctx, made.Certificate.Serial)
	if err != nil {
		t.Fatal(err)
	}
	if got.UserAgent != "apitest/1.0" || got.Address != "127.0.0.1" || got.Requested != "2h" || got.Granted != "2h" || got.PEM != made.PEM {
		t.Errorf("in the inventory: %+v", got)
	}
	got.PEM, got.Details = "", nil
	if diff := cmp.Diff(made.Certificate, *got); diff != "" {
		t.Errorf("shown differently (-issued +shown):\n%s", diff)
	}
	if e := w.Events(t, "certificate.issue")[0]; e.Actor.Name != "requester" || e.Request == "" {
		t.Errorf("event %+v", e)
	}
}

func TestRequestMeshIntermediate(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	one := 1
	two := 2
	if _, err := client.CreateCA(ctx, apiv1.CreateCA{Name: "deep-root", Kind: "root", PathLength: &two}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateCA(ctx, apiv1.CreateCA{Name: "deep", Kind: "issuing", Parent: "deep-root", PathLength: &one}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateProfile(ctx, apiv1.CreateProfile{Name: "mesh-ca", Template: "mesh-intermediate", IssuingCA: "deep"}); err != nil {
		t.Fatal(err)
	}
	made, err := client.CreateCertificate(ctx, apiv1.CreateCertificate{Profile: "mesh-ca", CSR: csrPEM(t, testca.Request{CommonName: "Istio CA of cluster 1", CA: true})})
	if err != nil {
		t.Fatal(err)
	}
	if leaf := certificateOf(t, made.PEM); !leaf.IsCA || leaf.Subject.CommonName != "Istio CA of cluster 1" {
		t.Errorf("certificate %v, CA %t", leaf.Subject, leaf.IsCA)
	}
}

func TestRefusesCertificateRequests(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	good := csrPEM(t, testca.Request{URIs: []string{testca.SPIFFE}})
	cases := map[string]struct {
		role     pki.Role
		profile  string
		csr      string
		validity string
		status   int
		fields   []string
	}{
		"refuses/no-pem":           {pki.RoleAdmin, "ci", "hello", "", 400, []string{"/csr"}},
		"refuses/other-pem":        {pki.RoleAdmin, "ci", certPEM([]byte{1}), "", 400, []string{"/csr"}},
		"refuses/two-csrs":         {pki.RoleAdmin, "ci", good + good, "", 400, []string{"/csr"}},
		"refuses/broken-csr":       {pki.RoleAdmin, "ci", strings.Replace(certPEM([]byte{0x30, 0}), "CERTIFICATE", "CERTIFICATE REQUEST", 2), "", 400, []string{"/csr"}},
		"refuses/unknown-profile":  {pki.RoleAdmin, "nope", good, "", 400, []string{"/profile"}},
		"refuses/acme-profile":     {pki.RoleAdmin, "istio", good, "", 400, []string{"/profile"}},
		"refuses/several":          {pki.RoleAdmin, "istio", "hello", "soon", 400, []string{"/csr", "/profile", "/validity"}},
		"refuses/trust-domain":     {pki.RoleAdmin, "ci", csrPEM(t, testca.Request{URIs: []string{"spiffe://other/ns/a/sa/b"}}), "", 403, nil},
		"refuses/dns-name":         {pki.RoleAdmin, "ci", csrPEM(t, testca.Request{DNS: []string{"a.example.com"}}), "", 403, nil},
		"refuses/no-names":         {pki.RoleAdmin, "ci", csrPEM(t, testca.Request{}), "", 400, nil},
		"refuses/others-profile":   {pki.RoleRequester, "istio", good, "", 403, []string{"/profile"}},
		"refuses/no-such-to-guess": {pki.RoleRequester, "nope", good, "", 403, []string{"/profile"}},
		"refuses/viewer":           {pki.RoleAuditor, "ci", good, "", 403, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := json.Marshal(apiv1.CreateCertificate{Profile: c.profile, CSR: c.csr, Validity: c.validity})
			if err != nil {
				t.Fatal(err)
			}
			answer := w.Do(t, http.MethodPost, "/certificates", w.Tokens[c.role], strings.NewReader(string(body)), nil)
			if answer.Status != c.status {
				t.Fatalf("status %d, want %d: %s", answer.Status, c.status, answer.Body)
			}
			if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" && c.fields != nil {
				t.Errorf("fields (-want +got):\n%s\n%s", diff, answer.Body)
			}
		})
	}
}

// inventory is a server with some certificates: five of "istio", two of "web".
func inventory(t *testing.T) (*apitest.World, []*pki.Certificate) {
	t.Helper()
	w := apitest.New(t)
	var all []*pki.Certificate
	for i := range 5 {
		all = append(all, w.Issue(t, "istio", testca.Request{URIs: []string{fmt.Sprintf("spiffe://cluster.local/ns/ns-%d/sa/app", i%2)}}))
		w.Clock.Advance(time.Minute)
	}
	for i := range 2 {
		all = append(all, w.Issue(t, "web", testca.Request{DNS: []string{fmt.Sprintf("www-%d.example.com", i)}}))
		w.Clock.Advance(time.Minute)
	}
	if err := w.Catalog.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, all
}

func TestListCertificates(t *testing.T) {
	t.Parallel()
	w, all := inventory(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAuditor)
	if _, err := w.Client(t, pki.RoleAdmin).RevokeCertificate(ctx, string(all[6].Serial), apiv1.RevokeCertificate{Reason: "superseded"}); err != nil {
		t.Fatal(err)
	}
	credential := w.Catalog.Snapshot().Credentials()[0]
	cases := map[string]struct {
		query apiv1.CertificateQuery
		want  []int
	}{
		"all":             {apiv1.CertificateQuery{}, []int{6, 5, 4, 3, 2, 1, 0}},
		"identity":        {apiv1.CertificateQuery{Identity: "www-0.example.com"}, []int{5}},
		"identity-prefix": {apiv1.CertificateQuery{Identity: "spiffe://cluster.local/ns/ns-1/*"}, []int{3, 1}},
		"namespace":       {apiv1.CertificateQuery{Namespace: "ns-0"}, []int{4, 2, 0}},
		"trust-domain":    {apiv1.CertificateQuery{TrustDomain: "cluster.local"}, []int{4, 3, 2, 1, 0}},
		"profile":         {apiv1.CertificateQuery{Profile: "web"}, []int{6, 5}},
		"ca":              {apiv1.CertificateQuery{IssuingCA: "root"}, nil},
		"credential":      {apiv1.CertificateQuery{Credential: string(credential.ID)}, []int{4, 3, 2, 1, 0}},
		"account":         {apiv1.CertificateQuery{Account: "nobody"}, nil},
		"status":          {apiv1.CertificateQuery{Status: "revoked"}, []int{6}},
		"fingerprint":     {apiv1.CertificateQuery{Fingerprint: fmt.Sprintf("%x", all[2].Fingerprint)}, []int{2}},
		"issued-after":    {apiv1.CertificateQuery{IssuedAfter: all[4].IssuedAt.Add(time.Second)}, []int{6, 5}},
		"expires-before":  {apiv1.CertificateQuery{ExpiresBefore: all[2].NotAfter}, []int{1, 0}},
		"two":             {apiv1.CertificateQuery{Profile: "istio", Namespace: "ns-1"}, []int{3, 1}},
		"limit":           {apiv1.CertificateQuery{Limit: 2}, []int{6, 5}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := client.Certificates(ctx, c.query)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, item := range page.Items {
				got = append(got, item.Serial)
			}
			for _, i := range c.want {
				want = append(want, string(all[i].Serial))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("serials (-want +got):\n%s", diff)
			}
		})
	}
	var pages []string
	err := apiv1.All(func(after string) (*apiv1.Page[apiv1.Certificate], error) {
		return client.Certificates(ctx, apiv1.CertificateQuery{After: after, Limit: 3})
	}, func(c apiv1.Certificate) error {
		pages = append(pages, c.Serial)
		return nil
	})
	if err != nil || len(pages) != len(all) {
		t.Errorf("page after page: %d certificates, %v", len(pages), err)
	}
}

func TestCertificatePEM(t *testing.T) {
	t.Parallel()
	w, all := inventory(t)
	client := w.Client(t, pki.RoleAuditor)
	for chain, want := range map[bool]int{false: 1, true: 3} {
		text, err := client.CertificatePEM(t.Context(), string(all[0].Serial), chain)
		if err != nil || strings.Count(string(text), "BEGIN CERTIFICATE") != want {
			t.Errorf("chain %t: %s, %v", chain, text, err)
		}
	}
}

func TestRevokeCertificate(t *testing.T) {
	t.Parallel()
	w, all := inventory(t)
	ctx, client, serial := t.Context(), w.Client(t, pki.RoleAdmin), string(all[0].Serial)
	answer := w.Do(t, http.MethodPost, "/certificates/xyz/revoke", w.Tokens[pki.RoleAdmin], strings.NewReader(`{"reason":"boredom"}`), nil)
	if diff := cmp.Diff([]string{"/reason", "serial"}, fields(answer.Problem)); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	colons := strings.ToUpper(serial[:2]) + ":" + serial[2:]
	c, err := client.RevokeCertificate(ctx, colons, apiv1.RevokeCertificate{Reason: "keyCompromise"})
	if err != nil || c.Status != "revoked" || c.RevocationReason != "keyCompromise" {
		t.Fatalf("revoke: %+v, %v", c, err)
	}
	if _, err := client.RevokeCertificate(ctx, serial, apiv1.RevokeCertificate{}); statusOf(err) != http.StatusBadRequest {
		t.Errorf("revoke again: %v", err)
	}
	if _, err := client.RevokeCertificate(ctx, strings.Repeat("ab", 20), apiv1.RevokeCertificate{}); statusOf(err) != http.StatusNotFound {
		t.Errorf("revoke what is not there: %v", err)
	}
	if e := w.Events(t, "certificate.revoke"); len(e) != 1 || e[0].Actor.Name != "admin" || e[0].Target != serial {
		t.Errorf("events %+v", e)
	}
}

func export(t *testing.T, w *apitest.World, format string, q apiv1.CertificateQuery) string {
	t.Helper()
	stream, err := w.Client(t, pki.RoleAuditor).ExportCertificates(t.Context(), format, q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	raw, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestExport(t *testing.T) {
	t.Parallel()
	w, all := inventory(t)
	var certificates []apiv1.Certificate
	if err := json.Unmarshal([]byte(export(t, w, "json", apiv1.CertificateQuery{})), &certificates); err != nil || len(certificates) != len(all) {
		t.Errorf("JSON: %d certificates, %v", len(certificates), err)
	}
	if err := json.Unmarshal([]byte(export(t, w, "json", apiv1.CertificateQuery{Namespace: "none"})), &certificates); err != nil || len(certificates) != 0 {
		t.Errorf("JSON of none: %d certificates, %v", len(certificates), err)
	}
	rows, err := csv.NewReader(strings.NewReader(export(t, w, "csv", apiv1.CertificateQuery{Profile: "web"}))).ReadAll()
	if err != nil || len(rows) != 3 || rows[0][0] != "serial" || rows[2][2] != "www-0.example.com" {
		t.Errorf("CSV: %v, %v", rows, err)
	}
	text := export(t, w, "pem", apiv1.CertificateQuery{})
	rest, count := []byte(text), 0
	for block, after := pem.Decode(rest); block != nil; block, after = pem.Decode(rest) {
		count, rest = count+1, after
	}
	if count != len(all) || !strings.Contains(text, "# "+string(all[0].Serial)+" valid spiffe://cluster.local/ns/ns-0/sa/app\n") {
		t.Errorf("PEM: %d certificates\n%.300s", count, text)
	}
	for _, format := range []string{"json", "csv", "pem"} {
		answer := w.Do(t, http.MethodGet, "/certificates/export?format="+format, w.Tokens[pki.RoleAuditor], nil, nil)
		if !strings.Contains(answer.Header.Get("Content-Disposition"), "certificates."+format) || answer.Header.Get("Content-Type") == "" {
			t.Errorf("%s: headers %v", format, answer.Header)
		}
	}
}

// TestExportPages exports more than one page of the store.
func TestExportPages(t *testing.T) {
	if testing.Short() {
		t.Skip("issues more than a thousand certificates")
	}
	t.Parallel()
	w := apitest.New(t)
	const many = 1005
	key := testca.Key(t)
	for i := range many {
		w.Issue(t, "istio", testca.Request{URIs: []string{fmt.Sprintf("spiffe://cluster.local/ns/a/sa/s-%d", i)}, Key: key})
	}
	var certificates []apiv1.Certificate
	if err := json.Unmarshal([]byte(export(t, w, "json", apiv1.CertificateQuery{})), &certificates); err != nil || len(certificates) != many {
		t.Fatalf("%d certificates, %v", len(certificates), err)
	}
	seen := map[string]bool{}
	for _, c := range certificates {
		seen[c.Serial] = true
	}
	if len(seen) != many {
		t.Errorf("%d different certificates of %d", len(seen), many)
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	w, _ := inventory(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAuditor)
	page, err := client.Identities(ctx, apiv1.IdentityQuery{})
	if err != nil || len(page.Items) != 4 {
		t.Fatalf("identities %+v, %v", page, err)
	}
	i, err := client.Identity(ctx, "spiffe://cluster.local/ns/ns-0/sa/app")
	if err != nil {
		t.Fatal(err)
	}
	if i.Certificates != 3 || i.Status != "ok" || i.Namespace != "ns-0" || i.ServiceAccount != "app" || i.Profile != "istio" {
		t.Errorf("identity %+v", i)
	}
	w.Clock.Advance(20 * time.Hour)
	for status, want := range map[string]int{"ok": 2, "renewal-due": 0, "lapsing": 2, "lapsed": 0} {
		page, err := client.Identities(ctx, apiv1.IdentityQuery{Status: status})
		if err != nil || len(page.Items) != want {
			t.Errorf("%s: %d, want %d, %v", status, len(page.Items), want, err)
		}
	}
	if page, err = client.Identities(ctx, apiv1.IdentityQuery{Limit: 3}); err != nil || page.Next == "" {
		t.Fatalf("first page %+v, %v", page, err)
	}
	if page, err = client.Identities(ctx, apiv1.IdentityQuery{Limit: 3, After: page.Next}); err != nil || len(page.Items) != 1 {
		t.Errorf("second page %+v, %v", page, err)
	}
	if page, err = client.Identities(ctx, apiv1.IdentityQuery{Profile: "web", Name: "www*"}); err != nil || len(page.Items) != 2 {
		t.Errorf("by profile and name %+v, %v", page, err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w, all := inventory(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAuditor)
	page, err := client.Events(ctx, apiv1.EventQuery{Action: "certificate.*", Limit: 2})
	if err != nil || len(page.Items) != 2 || page.Next == "" {
		t.Fatalf("events %+v, %v", page, err)
	}
	if e := page.Items[0]; e.Target != string(all[6].Serial) || e.Profile != "web" || e.Names.DNS[0] != "www-1.example.com" || e.Outcome != "done" {
		t.Errorf("event %+v", e)
	}
	page, err = client.Events(ctx, apiv1.EventQuery{Action: "certificate.*", Limit: 2, After: page.Next})
	if err != nil || page.Items[0].Target != string(all[4].Serial) {
		t.Errorf("second page %+v, %v", page, err)
	}
	page, err = client.Events(ctx, apiv1.EventQuery{Target: "istio"})
	if err != nil || len(page.Items) != 1 || page.Items[0].Action != "profile.create" || len(page.Items[0].Changes) < 10 {
		t.Errorf("by target %+v, %v", page, err)
	}
	page, err = client.Events(ctx, apiv1.EventQuery{Outcome: "refused"})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("refusals %+v, %v", page, err)
	}
	page, err = client.Events(ctx, apiv1.EventQuery{Since: all[6].IssuedAt})
	if err != nil || len(page.Items) != 1 {
		t.Errorf("since %+v, %v", page, err)
	}
}
