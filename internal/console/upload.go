package console

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// fileSuffix marks the input for a file that stands in for the text of a field.
const fileSuffix = "@file"

// readForm reads what a page sends, of either encoding. A file becomes the text of its field: whoever chose one meant it, also
// when the field has a text.
func readForm(r *http.Request) error {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		if err := r.ParseForm(); err != nil {
			return fmt.Errorf("read the form: %w", err)
		}
		return nil
	}
	if err := r.ParseMultipartForm(maxForm); err != nil { // all of it fits into memory
		return fmt.Errorf("read the form: %w", err)
	}
	return takeFiles(r.MultipartForm, r.PostForm)
}

// takeFiles puts files into fields.
func takeFiles(sent *multipart.Form, into url.Values) error {
	for name, files := range sent.File {
		field, ok := strings.CutSuffix(name, fileSuffix)
		if !ok || len(files) == 0 || files[0].Size == 0 { // nobody chose one
			continue
		}
		file, err := files[0].Open()
		if err != nil {
			return fmt.Errorf("open the file of %s: %w", field, err)
		}
		content, err := io.ReadAll(file)
		if err := file.Close(); err != nil {
			return fmt.Errorf("close the file of %s: %w", field, err)
		}
		if err != nil {
			return fmt.Errorf("read the file of %s: %w", field, err)
		}
		into.Set(field, fileText(content))
	}
	return nil
}

// fileText is a file as the API takes it: PEM, also of a certificate that is in DER, as .cer files mostly are.
func fileText(content []byte) string {
	if !bytes.Contains(content, []byte("-----BEGIN")) {
		if _, err := x509.ParseCertificate(content); err == nil {
			return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: content}))
		}
	}
	return strings.ToValidUTF8(string(content), "\uFFFD")
}
