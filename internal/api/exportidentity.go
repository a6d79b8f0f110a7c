package api

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// exportIdentities is exportCertificates for identities.
func (s *Server) exportIdentities(ctx context.Context, in *struct {
	IdentityQuery
	Format string `query:"format" doc:"json is an array, one identity a line." default:"json" enum:"json,csv"`
},
) (*streamOutput, error) {
	view := s.config.Catalog.Snapshot()
	filter, err := in.filter(ctx, view)
	if err != nil {
		return nil, err
	}
	filter.Limit = exportPage
	first, err := s.config.Store.Identities(ctx, filter, s.config.Now())
	if err != nil {
		return nil, err
	}
	types := map[string]string{"json": "application/json", "csv": "text/csv; charset=utf-8; header=present"}
	return &streamOutput{
		ContentType: types[in.Format],
		Disposition: fmt.Sprintf("attachment; filename=\"identities.%s\"", in.Format),
		Body: func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			stream := &export{server: s, view: view, out: bufio.NewWriterSize(w, 64<<10), response: http.NewResponseController(w)}
			w.Header().Set("Content-Type", types[in.Format])
			w.WriteHeader(http.StatusOK)
			if err := stream.identities(ctx, filter, first, in.Format); err != nil {
				s.config.Logger.WarnContext(ctx, "export broken off", telemetry.KeyRequest, auth.PrincipalOf(ctx).Request, telemetry.KeyError, err)
				panic(http.ErrAbortHandler) // as in exportCertificates
			}
		},
	}, nil
}

// identities writes page after page.
func (e *export) identities(ctx context.Context, filter pki.IdentityFilter, page []pki.Identity, format string) error {
	write, end := e.identityLines()
	if format == "csv" {
		write, end = e.identityRows()
	}
	for len(page) > 0 {
		now := e.server.config.Now()
		for i := range page {
			wire := wireIdentity(e.view, &page[i], now)
			if err := write(&wire); err != nil {
				return err
			}
		}
		if len(page) < filter.Limit {
			break
		}
		if err := e.flush(); err != nil {
			return err
		}
		filter.After = page[len(page)-1].Cursor
		var err error
		if page, err = e.server.config.Store.Identities(ctx, filter, now); err != nil {
			return err
		}
	}
	if err := end(); err != nil {
		return err
	}
	return e.flush()
}

// identityLines writes an array with one identity a line. The writer keeps its error, and sends it again with Flush.
func (e *export) identityLines() (write func(*apiv1.Identity) error, end func() error) {
	separator := "[\n"
	write = func(i *apiv1.Identity) error {
		raw, err := json.Marshal(i)
		if err != nil {
			return fmt.Errorf("write identity: %w", err)
		}
		_, _ = e.out.WriteString(separator)
		_, _ = e.out.Write(raw)
		separator = ",\n"
		return nil
	}
	end = func() error {
		if separator == "[\n" {
			_, _ = e.out.WriteString("[")
		}
		_, _ = e.out.WriteString("\n]\n")
		return nil
	}
	return write, end
}

func (e *export) identityRows() (write func(*apiv1.Identity) error, end func() error) {
	rows := csv.NewWriter(e.out)
	_ = rows.Write([]string{
		"name", "status", "trustDomain", "namespace", "serviceAccount", "cluster", "profile", "newestSerial", "notBefore", "notAfter",
		"revokedAt", "certificates", "firstIssuedAt", "lastIssuedAt",
	})
	write = func(i *apiv1.Identity) error {
		row := []string{
			i.Name, i.Status, i.TrustDomain, i.Namespace, i.ServiceAccount, i.Cluster, i.Profile, i.NewestSerial, stamp(i.NotBefore), stamp(i.NotAfter),
			stamp(i.RevokedAt), strconv.FormatInt(i.Certificates, 10), stamp(i.FirstIssuedAt), stamp(i.LastIssuedAt),
		}
		for n := range row {
			row[n] = cell(row[n])
		}
		return rows.Write(row)
	}
	end = func() error {
		rows.Flush()
		return rows.Error()
	}
	return write, end
}
