package api

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	exportPage = 1000
	// exportPause is how long a client may take to read a page. The server's limit for whole answers would end every
	// export of a large inventory.
	exportPause = time.Minute
)

// streamOutput is an answer that is written piece by piece.
type streamOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        func(huma.Context)
}

func (s *Server) exportCertificates(ctx context.Context, in *struct {
	CertificateQuery
	Format string `query:"format" doc:"json is an array, one certificate a line." default:"json" enum:"json,csv,pem"`
},
) (*streamOutput, error) {
	view := s.config.Catalog.Snapshot()
	filter, err := in.filter(ctx, view)
	if err != nil {
		return nil, err
	}
	filter.Limit = exportPage
	// The first page is read before anything is sent, so that what is wrong with the request or the database becomes
	// a problem document.
	first, err := s.config.Store.Certificates(ctx, filter, s.config.Now())
	if err != nil {
		return nil, err
	}
	types := map[string]string{"json": "application/json", "csv": "text/csv; charset=utf-8; header=present", "pem": pemType}
	return &streamOutput{
		ContentType: types[in.Format],
		Disposition: fmt.Sprintf("attachment; filename=\"certificates.%s\"", in.Format),
		Body: func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			stream := &export{server: s, view: view, filter: filter, out: bufio.NewWriterSize(w, 64<<10), response: http.NewResponseController(w)}
			// The layer above has set these on the framework's context only when there is a status.
			w.Header().Set("Content-Type", types[in.Format])
			w.WriteHeader(http.StatusOK)
			if err := stream.run(ctx, first, stream.writer(in.Format)); err != nil {
				s.config.Logger.WarnContext(ctx, "export broken off", telemetry.KeyRequest, auth.PrincipalOf(ctx).Request, telemetry.KeyError, err)
				// The status has been sent. Only a connection that breaks off tells the client that something is missing;
				// this is net/http's way to ask for that.
				panic(http.ErrAbortHandler)
			}
		},
	}, nil
}

type export struct {
	server   *Server
	view     *catalog.Snapshot
	filter   pki.CertificateFilter
	out      *bufio.Writer
	response *http.ResponseController
}

// writer writes one format.
type exportWriter interface {
	begin() error
	certificate(c *pki.Certificate, now time.Time) error
	end() error
}

func (e *export) writer(format string) exportWriter {
	switch format {
	case "csv":
		return &csvExport{export: e, rows: csv.NewWriter(e.out)}
	case "pem":
		return &pemExport{export: e}
	default:
		return &jsonExport{export: e}
	}
}

func (e *export) run(ctx context.Context, page []pki.Certificate, w exportWriter) error {
	if err := w.begin(); err != nil {
		return err
	}
	for len(page) > 0 {
		now := e.server.config.Now()
		for i := range page {
			if err := w.certificate(&page[i], now); err != nil {
				return err
			}
		}
		if len(page) < exportPage {
			break
		}
		if err := e.flush(); err != nil {
			return err
		}
		e.filter.Before = page[len(page)-1].Serial
		var err error
		if page, err = e.server.config.Store.Certificates(ctx, e.filter, now); err != nil {
			return err
		}
	}
	if err := w.end(); err != nil {
		return err
	}
	return e.flush()
}

// flush sends what there is and gives the client time for it. A connection that knows no deadlines has none to extend.
func (e *export) flush() error {
	_ = e.response.SetWriteDeadline(time.Now().Add(exportPause)) //nolint:forbidigo // sockets know the machine's clock only
	if err := e.out.Flush(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	_ = e.response.Flush()
	return nil
}

// jsonExport is an array with one certificate a line, so that line tools can read it, too.
type jsonExport struct {
	*export
	some bool
}

func (j *jsonExport) begin() error {
	_, err := j.out.WriteString("[")
	return err //nolint:wrapcheck // the writer sends its error again with Flush, which says what failed
}

func (j *jsonExport) certificate(c *pki.Certificate, now time.Time) error {
	wire := wireCertificate(j.view, c, now)
	raw, err := json.Marshal(&wire)
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	separator := ",\n"
	if !j.some {
		separator, j.some = "\n", true
	}
	_, _ = j.out.WriteString(separator) // the writer keeps its error
	_, err = j.out.Write(raw)
	return err //nolint:wrapcheck // as above
}

func (j *jsonExport) end() error {
	_, err := io.WriteString(j.out, "\n]\n")
	return err //nolint:wrapcheck // as above
}

type pemExport struct{ *export }

func (p *pemExport) begin() error { return nil }
func (p *pemExport) end() error   { return nil }

// certificate writes the explanatory text that RFC 7468 section 5.2 allows, so that a file with many can be searched.
func (p *pemExport) certificate(c *pki.Certificate, now time.Time) error {
	_, err := fmt.Fprintf(p.out, "# %s %s %s\n%s", c.Serial, c.Status(now), c.Identity, toPEM(c.DER))
	return err //nolint:wrapcheck // as above
}

type csvExport struct {
	*export
	rows *csv.Writer
}

func (v *csvExport) begin() error {
	return v.rows.Write([]string{ //nolint:wrapcheck // as above
		"serial", "status", "identity", "uris", "dns", "ips", "profile", "issuingCa", "notBefore", "notAfter", "renewAt",
		"issuedAt", "requestedLifetime", "grantedLifetime", "keyAlgorithm", "signatureAlgorithm", "fingerprint",
		"credential", "credentialName", "account", "order", "userAgent", "address", "revokedAt", "revocationReason",
		"cluster", "namespace", "serviceAccount", "pod", "podUid", "node", "impersonatedBy", "presented",
	})
}

func (v *csvExport) certificate(c *pki.Certificate, now time.Time) error {
	w := wireCertificate(v.view, c, now)
	row := []string{
		w.Serial, w.Status, w.Identity, strings.Join(w.Names.URIs, " "), strings.Join(w.Names.DNS, " "), strings.Join(w.Names.IPs, " "),
		w.Profile, w.IssuingCA, stamp(w.NotBefore), stamp(w.NotAfter), stamp(w.RenewAt), stamp(w.IssuedAt), w.Requested, w.Granted,
		w.KeyAlgorithm, w.SignatureAlgorithm, w.Fingerprint, w.Credential, w.CredentialName, w.Account, w.Order,
		w.UserAgent, w.Address, stamp(w.RevokedAt), w.RevocationReason,
		c.Workload.Cluster, c.Workload.Namespace, c.Workload.ServiceAccount, c.Workload.Pod, c.Workload.PodUID, c.Workload.Node,
		c.Workload.ImpersonatedBy, string(c.Workload.Presented),
	}
	for i := range row {
		row[i] = cell(row[i])
	}
	return v.rows.Write(row) //nolint:wrapcheck // as above
}

func (v *csvExport) end() error {
	v.rows.Flush()
	return v.rows.Error() //nolint:wrapcheck // as above
}

// cell keeps a spreadsheet from taking a value for a formula: a user agent is written by whoever asked.
func cell(value string) string {
	if value != "" && strings.ContainsRune("=+-@\t\r", rune(value[0])) {
		return "'" + value
	}
	return value
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
