package console_test

import (
	"bytes"
	"encoding/pem"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestAddressesOfAnAuthority(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	const path = "/authorities/issuing/settings"
	form := l.fields(t, path)
	form.Set("/crlUrls", "http://one.example/crl\nhttp://two.example/crl")
	form.Set("/ocspUrls", "gopher://old.example")
	if a := l.post(t, path, form); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "is-invalid") || !strings.Contains(a.Body.String(), "two.example") {
		t.Errorf("an address of another scheme: %d", a.Code)
	}
	form.Set("/ocspUrls", "")
	if a := l.post(t, path, form); a.Header().Get("Location") != "/authorities/issuing" {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/authorities/issuing"); !strings.Contains(html, "http://two.example/crl") || strings.Contains(html, "gopher") {
		t.Error("the page of the CA does not have the new address")
	}
}

// TestUpload sends files as browsers do: one takes the place of the text, certificates may be in DER, and a key does not come back.
func TestUpload(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	block := &pem.Block{Type: "CERTIFICATE", Bytes: l.Catalog.Snapshot().CAs()[0].Certificate}
	for name, content := range map[string][]byte{"PEM": pem.EncodeToMemory(block), "DER": block.Bytes} {
		t.Run(name, func(t *testing.T) {
			a := l.upload(t, "/authorities/import", url.Values{"/name": {"copy"}, "/chain": {"an older text"}, "/key": {""}}, map[string][]byte{
				"/chain@file": content, "/key@file": []byte("very secret"),
			})
			body := a.Body.String()
			if a.Code != http.StatusUnprocessableEntity || !strings.Contains(body, "-----BEGIN CERTIFICATE-----") || strings.Contains(body, "an older text") {
				t.Errorf("the chain was not taken: %d\n%s", a.Code, body)
			}
			if strings.Contains(body, "very secret") {
				t.Error("the key came back")
			}
		})
	}
	t.Run("refuses/neither file nor text", func(t *testing.T) {
		a := l.upload(t, "/authorities/import", url.Values{"/name": {"copy"}}, map[string][]byte{"/chain@file": nil, "/key@file": nil})
		if a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "invalid-feedback") {
			t.Errorf("answers %d", a.Code)
		}
	})
	t.Run("refuses/more than fits", func(t *testing.T) {
		a := l.upload(t, "/authorities/import", nil, map[string][]byte{"/chain@file": make([]byte, 1<<20)})
		if a.Code != http.StatusBadRequest {
			t.Errorf("answers %d", a.Code)
		}
	})
}

// upload sends a form with files.
func (l *lab) upload(t *testing.T, path string, fields url.Values, files map[string][]byte) *httptest.ResponseRecorder {
	t.Helper()
	var sent bytes.Buffer
	form := multipart.NewWriter(&sent)
	for name := range fields {
		if err := form.WriteField(name, fields.Get(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		part, err := form.CreateFormFile(name, "file.bin")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &sent)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return l.do(t, r)
}
