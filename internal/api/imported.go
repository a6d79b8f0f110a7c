package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/imported"
	"github.com/certloom/certloom/internal/pki"
)

func (s *Server) importedRoutes() {
	const tag, path, one = "imported", "/imported-certificates", "/imported-certificates/{fingerprint}"
	register(s, operation{
		id: "list-imported-certificates", method: http.MethodGet, path: path, tag: tag, access: auth.Read, asIs: true,
		summary: "List certificates of other CAs, by name",
	}, s.listImported)
	register(s, operation{
		id: "import-certificates", method: http.MethodPost, path: path, tag: tag, access: auth.Operate, asIs: true,
		body:    int64(base64.StdEncoding.EncodedLen(imported.MaxBytes)) + maxBody,
		summary: "Take the certificates of a file into the inventory; each part that cannot be read is told, and the rest imported",
	}, s.importCertificates)
	register(s, operation{
		id: "get-imported-certificate", method: http.MethodGet, path: one, tag: tag, access: auth.Read, asIs: true,
		summary: "Show a certificate of another CA, and where it is",
	}, s.getImported)
	register(s, operation{
		id: "delete-imported-certificate", method: http.MethodDelete, path: one, tag: tag, access: auth.Operate, asIs: true,
		summary: "Take a certificate of another CA out of the inventory",
	}, s.deleteImported)
}

// FingerprintPath is the parameter of operations on one imported certificate.
type FingerprintPath struct {
	Fingerprint string `path:"fingerprint" doc:"SHA-256 in hexadecimal, with or without colons." maxLength:"100"`
}

func (p *FingerprintPath) parse() ([]byte, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(p.Fingerprint, ":", ""))
	if err != nil || len(raw) != 32 {
		return nil, fault.New(fault.Malformed, "fingerprint %.100q is not 64 hexadecimal digits", p.Fingerprint).WithField("fingerprint")
	}
	return raw, nil
}

func (s *Server) listImported(ctx context.Context, in *struct {
	Text          string `query:"q" doc:"What a person types: parts of a name, of the subject, the issuer or a place." maxLength:"200"`
	Status        string `query:"status" doc:"What they are now." enum:"valid,expired"`
	Level         string `query:"level" enum:"very-secure,secure,at-risk,not-secure" doc:"Security rating."`
	ExpiresWithin string `query:"expiresWithin" doc:"Valid ones that expire within this time, such as 30d." maxLength:"20"`
	PageQuery
},
) (*output[apiv1.Page[apiv1.Imported]], error) {
	now := s.config.Now()
	filter := pki.ImportedFilter{Text: in.Text, Level: pki.Level(in.Level), After: in.After, Limit: in.Limit}
	if in.Status != "" {
		filter.Expired = new(in.Status == "expired")
	}
	if in.ExpiresWithin != "" {
		d, err := pki.ParseDuration(in.ExpiresWithin)
		if err != nil {
			return nil, fault.New(fault.Malformed, "%v", err).WithField("expiresWithin")
		}
		filter.ExpiresBefore = now.Add(time.Duration(d))
		if filter.Expired == nil {
			filter.Expired = new(false)
		}
	}
	found, err := s.config.Store.ImportedCertificates(ctx, filter, now)
	if err != nil {
		return nil, err
	}
	page := apiv1.Page[apiv1.Imported]{Items: make([]apiv1.Imported, 0, len(found))}
	for i := range found {
		page.Items = append(page.Items, wireImported(&found[i], now))
	}
	if len(found) == in.Limit {
		page.Next = found[len(found)-1].Cursor
	}
	return answer(page), nil
}

func wireImported(c *pki.Imported, now time.Time) apiv1.Imported {
	out := apiv1.Imported{
		Fingerprint: hex.EncodeToString(c.Fingerprint[:]), Name: c.Name, Status: "valid", Subject: c.Subject, Issuer: c.Issuer, Serial: c.Serial,
		Names: apiv1.CertificateNames{URIs: c.Names.URIs, DNS: c.Names.DNS, IPs: c.Names.IPs}, IsCA: c.IsCA, NotBefore: utc(c.NotBefore),
		NotAfter: utc(c.NotAfter), KeyAlgorithm: c.KeyAlgorithm, Signature: c.Signature, Uploaded: c.Uploaded, CreatedAt: utc(c.CreatedAt),
		Rating: apiv1.Rating{Level: string(c.Rating.Level), Findings: []apiv1.Finding{}},
	}
	if now.After(c.NotAfter) {
		out.Status = "expired"
	}
	for _, f := range c.Rating.Findings {
		out.Rating.Findings = append(out.Rating.Findings, apiv1.Finding{Code: string(f.Code), Level: string(f.Level), Text: f.Text})
	}
	for _, e := range c.Endpoints {
		out.Endpoints = append(out.Endpoints, apiv1.Endpoint{Kind: e.Kind, Place: e.Place, FirstSeenAt: utc(e.FirstSeenAt), LastSeenAt: utc(e.LastSeenAt)})
	}
	return out
}

func (s *Server) getImported(ctx context.Context, in *FingerprintPath) (*output[apiv1.Imported], error) {
	fingerprint, err := in.parse()
	if err != nil {
		return nil, err
	}
	c, err := s.config.Store.ImportedCertificate(ctx, fingerprint)
	if err != nil {
		return nil, err
	}
	out := wireImported(c, s.config.Now())
	out.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))
	return answer(out), nil
}

func (s *Server) deleteImported(ctx context.Context, in *FingerprintPath) (*struct{}, error) {
	fingerprint, err := in.parse()
	if err != nil {
		return nil, err
	}
	return nil, s.config.Store.DeleteImported(ctx, fingerprint, s.viewEvent(ctx, audit.CertificateDelete, hex.EncodeToString(fingerprint)))
}

func (s *Server) importCertificates(ctx context.Context, in *struct{ body[apiv1.ImportCertificates] }) (*output[apiv1.ImportResult], error) {
	found, err := imported.Read(in.Body.Data, in.Body.Password)
	if err != nil {
		return nil, fault.From(err).WithField("/data")
	}
	out := apiv1.ImportResult{Items: make([]apiv1.ImportItem, 0, len(found.Certificates)+len(found.Problems))}
	for _, c := range found.Certificates {
		item, err := s.importOne(ctx, &c)
		if err != nil {
			return nil, err
		}
		if item.Result == "imported" {
			out.Imported++
		} else {
			out.Known++
		}
		out.Items = append(out.Items, item)
	}
	for _, p := range found.Problems {
		out.Refused++
		out.Items = append(out.Items, apiv1.ImportItem{Where: p.Where, Result: "refused", Reason: p.Reason})
	}
	return answer(out), nil
}

// importOne stores a certificate, unless it is ours or there already.
func (s *Server) importOne(ctx context.Context, c *imported.Certificate) (apiv1.ImportItem, error) {
	record := imported.Record(c.Certificate)
	record.Uploaded, record.CreatedAt = true, s.config.Now().UTC()
	fingerprint := hex.EncodeToString(record.Fingerprint[:])
	item := apiv1.ImportItem{
		Where: c.Where, Result: "known", Name: record.Name, Fingerprint: fingerprint, Level: string(record.Rating.Level),
	}
	ours, err := s.config.Store.CertificateByFingerprint(ctx, record.Fingerprint[:])
	switch {
	case err == nil:
		item.Reason = "it was issued here, with serial " + string(ours.Serial)
		return item, nil
	case !fault.Is(err, fault.NotFound):
		return item, err
	}
	ev := s.viewEvent(ctx, audit.CertificateImport, fingerprint)
	ev.Detail.Names = &record.Names
	added, err := s.config.Store.AddImported(ctx, record, ev)
	if err != nil {
		return item, err
	}
	item.Reason = "it is in the inventory already"
	if added {
		item.Result, item.Reason = "imported", ""
	}
	return item, nil
}
