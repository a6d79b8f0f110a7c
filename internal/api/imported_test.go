package api_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/imported"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

func TestImportedCertificates(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, operator, auditor := t.Context(), w.Client(t, pki.RoleOperator), w.Client(t, pki.RoleAuditor)
	h := testca.New(t)
	leaf := h.Leaf(t, &x509.Certificate{DNSNames: []string{"db.example.com"}, NotBefore: testca.Now(), NotAfter: testca.Now().Add(time.Hour)}, testca.Key(t).Public())
	text := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	own := w.Issue(t, "web", testca.Request{DNS: []string{"www.example.com"}})
	file := []byte(text(leaf.Raw) + text(h.RootCert.Raw) + text(own.DER) + "-----BEGIN CERTIFICATE-----\n!\n")
	result, err := operator.ImportCertificates(ctx, apiv1.ImportCertificates{Data: file})
	if err != nil || result.Imported != 2 || result.Known != 1 || result.Refused != 1 || !strings.Contains(result.Items[2].Reason, "issued here") {
		t.Fatalf("%+v, %v", result, err)
	}
	if result, err = operator.ImportCertificates(ctx, apiv1.ImportCertificates{Data: file}); err != nil || result.Imported != 0 || result.Known != 3 {
		t.Errorf("again: %+v, %v", result, err)
	}
	page, err := auditor.ImportedCertificates(ctx, apiv1.ImportedQuery{Limit: 1})
	if err != nil || len(page.Items) != 1 || page.Next == "" || page.Items[0].Rating.Level == "" {
		t.Fatalf("%+v, %v", page, err)
	}
	if page, err = auditor.ImportedCertificates(ctx, apiv1.ImportedQuery{Limit: 10, After: page.Next}); err != nil || len(page.Items) != 1 {
		t.Errorf("second page: %+v, %v", page, err)
	}
	if page, err = auditor.ImportedCertificates(ctx, apiv1.ImportedQuery{Text: "db.example", Status: "valid"}); err != nil || len(page.Items) != 1 {
		t.Fatalf("found: %+v, %v", page, err)
	}
	one, err := auditor.ImportedCertificate(ctx, page.Items[0].Fingerprint)
	if err != nil || one.PEM != text(leaf.Raw) || !one.Uploaded {
		t.Errorf("one: %+v, %v", one, err)
	}
	if err := auditor.DeleteImported(ctx, one.Fingerprint); err == nil {
		t.Error("an auditor deleted a certificate")
	}
	if err := operator.DeleteImported(ctx, one.Fingerprint); err != nil {
		t.Error(err)
	}
	if _, err := auditor.ImportedCertificate(ctx, one.Fingerprint); !problemIs(err, http.StatusNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func problemIs(err error, status int) bool {
	problem, ok := errors.AsType[*apiv1.Problem](err)
	return ok && problem.Status == status
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	operator := w.Client(t, pki.RoleOperator)
	for name, data := range map[string][]byte{"nothing": {}, "text": []byte("hello"), "too large": make([]byte, imported.MaxBytes+1)} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			_, err := operator.ImportCertificates(t.Context(), apiv1.ImportCertificates{Data: data})
			problem, ok := errors.AsType[*apiv1.Problem](err)
			if !ok || problem.Status != http.StatusBadRequest || len(problem.Errors) != 1 || problem.Errors[0].Pointer != "/data" {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("refuses/larger than any file", func(t *testing.T) {
		t.Parallel()
		_, err := operator.ImportCertificates(t.Context(), apiv1.ImportCertificates{Data: make([]byte, 2*imported.MaxBytes)})
		if !problemIs(err, http.StatusRequestEntityTooLarge) {
			t.Errorf("%v", err)
		}
	})
}
