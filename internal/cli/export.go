package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) certificateExport() *cobra.Command {
	var filter certificateFilter
	format, out, quiet := "", "", false
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export certificates as JSON, CSV or PEM, newest first",
		Long: `Export certificates as JSON (an array, one certificate a line), CSV or PEM, newest first. The export is streamed, and
may be as large as the inventory. A file appears under its name only when it is complete.`,
		Example: `  certloom certificate export --format csv --out inventory.csv
  certloom certificate export --status valid --format pem > all.pem
  certloom certificate export --profile istio --issued-after 7d --out last-week.json`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format == "" {
				format = formatOf(out)
			}
			if !slices.Contains([]string{"json", "csv", "pem"}, format) {
				return UsageError(fmt.Errorf("--format %q is not one of json, csv, pem", format))
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			query, err := filter.resolve(a, cmd, api)
			if err != nil {
				return err
			}
			export := &exportRun{app: a, what: "certificate", format: format, progress: !quiet && out != "" && isTerminal(a.Stderr)}
			return export.run(func() (io.ReadCloser, error) { return api.ExportCertificates(cmd.Context(), format, query) }, out)
		},
	}
	filter.add(cmd)
	cmd.Flags().StringVar(&format, "format", "", "json, csv or pem (default: by the ending of --out, else json)")
	cmd.Flags().StringVar(&out, "out", "", "file to write (default: standard output)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "do not show progress")
	return cmd
}

func (a *app) identityExport() *cobra.Command {
	var query apiv1.IdentityQuery
	format, out, quiet := "", "", false
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export identities as JSON or CSV, by name",
		Long: `Export identities as JSON (an array, one identity a line) or CSV, by name. The export is streamed, and may be as large as
the inventory. A file appears under its name only when it is complete.`,
		Example: `  certloom identity export --format csv --out identities.csv
  certloom identity export --status lapsed --namespace payments > lapsed.json`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format == "" {
				format = formatOf(out)
			}
			if err := errors.Join(oneOf("format", format, "json", "csv"), oneOf("status", query.Status, identityStates()...)); err != nil {
				return UsageError(err)
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			export := &exportRun{app: a, what: "identity", format: format, progress: !quiet && out != "" && isTerminal(a.Stderr)}
			return export.run(func() (io.ReadCloser, error) { return api.ExportIdentities(cmd.Context(), format, query) }, out)
		},
	}
	identityFlags(cmd, &query)
	cmd.Flags().StringVar(&format, "format", "", "json or csv (default: by the ending of --out, else json)")
	cmd.Flags().StringVar(&out, "out", "", "file to write (default: standard output)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "do not show progress")
	return cmd
}

func formatOf(out string) string {
	switch strings.ToLower(filepath.Ext(out)) {
	case ".csv":
		return "csv"
	case ".pem":
		return "pem"
	default:
		return "json"
	}
}

// reason is a file's error without the name of a temporary file that nobody has heard of.
func reason(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// exportRun copies an export and counts what it has as it goes by.
type exportRun struct {
	*app
	what     string // one of what is exported
	format   string
	progress bool
	count    int
	bytes    int64
	shown    time.Time
	carry    []byte // the end of what was counted, in which a mark may have begun
}

func (e *exportRun) run(open func() (io.ReadCloser, error), out string) error {
	stream, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // it was read to its end, or has failed already
	if out == "" {
		return e.copy(e.Stdout, stream)
	}
	file, err := os.CreateTemp(filepath.Dir(out), ".certloom-export-*") // mode 0600
	if err != nil {
		return UsageError(fmt.Errorf("--out %s: %w", out, reason(err)))
	}
	err = errors.Join(e.copy(file, stream), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), out)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	e.note("%s written to %s.", amount(e.count, e.what), out)
	return nil
}

func (e *exportRun) copy(to io.Writer, from io.Reader) error {
	if _, err := io.Copy(io.MultiWriter(to, e), from); err != nil {
		return fmt.Errorf("export broke off after %s: %w", amount(e.count, e.what), err)
	}
	if e.progress {
		fmt.Fprint(e.Stderr, "\r\033[K")
	}
	if e.format == "csv" && e.count > 0 {
		e.count-- // the heading
	}
	return nil
}

// mark is what there is once in each entry of a format.
func (e *exportRun) mark() []byte {
	switch e.format {
	case "csv":
		return []byte("\n") // no cell has one
	case "pem":
		return []byte("-----BEGIN")
	default:
		return []byte("\n{")
	}
}

// Write counts.
func (e *exportRun) Write(p []byte) (int, error) {
	mark := e.mark()
	seen := append(e.carry, p...)
	e.count += bytes.Count(seen, mark)
	keep := min(len(mark)-1, len(seen))
	e.carry = append([]byte(nil), seen[len(seen)-keep:]...)
	e.bytes += int64(len(p))
	if now := e.Now(); e.progress && now.Sub(e.shown) > time.Second/5 {
		e.shown = now
		fmt.Fprintf(e.Stderr, "\r\033[K%s, %.1f MB", amount(e.count, e.what), float64(e.bytes)/1e6)
	}
	return len(p), nil
}
