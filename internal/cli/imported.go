package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) importedCommand() *cobra.Command {
	return a.family("imported", "Certificates of other CAs that are watched here as well", nil,
		a.importedAdd(), a.importedList(), a.importedGet(), a.importedDelete())
}

func (a *app) importedAdd() *cobra.Command {
	passwordFile := ""
	cmd := &cobra.Command{
		Use:   "add FILE...",
		Short: "Take the certificates of files into the inventory",
		Long: `Take the certificates of PEM, DER, PKCS #7 and PKCS #12 files into the inventory, "-" being standard input. Each part that
cannot be read is told, and the rest is imported; the exit status is 1 when a file has nothing that could be taken. Private keys
are never kept.`,
		Example: `  certloom imported add /etc/ssl/certs/gateway.pem
  certloom imported add keystore.p12 --password-file password.txt
  openssl s_client -connect db.example.com:5432 -starttls postgres -showcerts </dev/null | certloom imported add -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			password := ""
			if passwordFile != "" {
				text, err := readFile("password-file", passwordFile)
				if err != nil {
					return err
				}
				password = strings.TrimRight(text, "\r\n")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			sum := &apiv1.ImportResult{Items: []apiv1.ImportItem{}}
			for _, file := range files {
				data, err := readAll(cmd, file)
				if err != nil {
					return err
				}
				result, err := api.ImportCertificates(cmd.Context(), apiv1.ImportCertificates{Data: data, Password: password})
				if err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
				sum.Imported, sum.Known, sum.Refused = sum.Imported+result.Imported, sum.Known+result.Known, sum.Refused+result.Refused
				for _, item := range result.Items {
					item.Where = strings.TrimSuffix(filepath.Base(file)+", "+item.Where, ", ")
					sum.Items = append(sum.Items, item)
				}
			}
			return a.showImport(sum)
		},
	}
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password of a PKCS #12")
	return cmd
}

func readAll(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		data, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, UsageError(err)
	}
	return data, nil
}

func (a *app) showImport(sum *apiv1.ImportResult) error {
	err := a.print(sum, func() error {
		var rows [][]string
		for _, item := range sum.Items {
			rows = append(rows, []string{item.Where, item.Result, item.Name, item.Level, item.Reason})
		}
		if err := a.rows([]string{"WHERE", "RESULT", "NAME", "RATING", "REASON"}, rows); err != nil {
			return err
		}
		a.note("%d imported, %d known already, %d refused", sum.Imported, sum.Known, sum.Refused)
		return nil
	})
	if err == nil && sum.Imported+sum.Known == 0 {
		return fmt.Errorf("nothing was imported: %d refused", sum.Refused)
	}
	return err
}

func (a *app) importedList() *cobra.Command {
	var query apiv1.ImportedQuery
	limit := 0
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates of other CAs",
		Example: `  certloom imported list
  certloom imported list --expires-within 30d
  certloom imported list --level not-secure -o json`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("status", query.Status, "valid", "expired"); err != nil {
				return err
			}
			if err := oneOf("level", query.Level, "very-secure", "secure", "at-risk", "not-secure"); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "certificates", func(after string, size int) (*apiv1.Page[apiv1.Imported], error) {
				query.After, query.Limit = after, size
				return api.ImportedCertificates(cmd.Context(), query)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, c := range items {
					rows = append(rows, []string{c.Fingerprint[:16], c.Name, c.Issuer, c.Status, a.when(c.NotAfter), c.Rating.Level})
				}
				return a.rows([]string{"FINGERPRINT", "NAME", "ISSUER", "STATUS", "EXPIRES", "RATING"}, rows)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&query.Text, "search", "", "part of a name, of the subject, the issuer or a place")
	flags.StringVar(&query.Status, "status", "", "valid or expired")
	flags.StringVar(&query.Level, "level", "", "security rating: very-secure, secure, at-risk or not-secure")
	flags.StringVar(&query.ExpiresWithin, "expires-within", "", "valid ones that expire within this time, such as 30d")
	limitFlag(cmd, &limit)
	return cmd
}

func (a *app) importedGet() *cobra.Command {
	asPEM := false
	cmd := &cobra.Command{
		Use:     "get FINGERPRINT",
		Short:   "Show a certificate of another CA, and where it is",
		Long:    "Show a certificate of another CA, and where it is. The beginning of the fingerprint is enough if only one has it.",
		Example: "  certloom imported get 5f0c1a2b3c4d5e6f\n  certloom imported get 5f0c1a2b3c4d5e6f --pem",
		Args:    args("FINGERPRINT"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			fingerprint, err := importedOf(cmd, api, names[0])
			if err != nil {
				return err
			}
			c, err := api.ImportedCertificate(cmd.Context(), fingerprint)
			if err != nil {
				return err
			}
			if asPEM {
				return write(a.Stdout, c.PEM)
			}
			return a.print(c, func() error { return a.showImported(c) })
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "write the certificate in PEM")
	return cmd
}

// importedOf completes a fingerprint.
func importedOf(cmd *cobra.Command, api *apiv1.Client, text string) (string, error) {
	text = strings.ToLower(strings.ReplaceAll(text, ":", ""))
	const whole, least = 64, 8
	if len(text) == whole {
		return text, nil
	}
	if len(text) < least {
		return "", UsageError(fmt.Errorf("fingerprint %q has less than %d digits", text, least))
	}
	found, query := "", apiv1.ImportedQuery{Limit: 1000}
	err := apiv1.All(func(after string) (*apiv1.Page[apiv1.Imported], error) {
		query.After = after
		return api.ImportedCertificates(cmd.Context(), query)
	}, func(c apiv1.Imported) error {
		switch {
		case !strings.HasPrefix(c.Fingerprint, text):
		case found != "":
			return UsageError(fmt.Errorf("several fingerprints begin with %s: %s, %s", text, found[:24], c.Fingerprint[:24]))
		default:
			found = c.Fingerprint
		}
		return nil
	})
	if err == nil && found == "" {
		err = fmt.Errorf("no imported certificate has a fingerprint that begins with %s; list them: certloom imported list", text)
	}
	return found, err
}

func (a *app) showImported(c *apiv1.Imported) error {
	list := []field{
		{"Name", c.Name},
		{"Status", c.Status},
		{"Rating", c.Rating.Level},
	}
	for _, f := range c.Rating.Findings {
		list = append(list, field{"Finding", f.Level + ": " + f.Text})
	}
	list = append(list,
		field{"Subject", c.Subject},
		field{"Issuer", c.Issuer},
		field{"Serial", c.Serial},
		field{"Names", strings.Join(append(append(append([]string{}, c.Names.URIs...), c.Names.DNS...), c.Names.IPs...), ", ")},
		field{"Not before", a.moment(c.NotBefore)},
		field{"Not after", a.moment(c.NotAfter)},
		field{"Key", c.KeyAlgorithm},
		field{"Signature", c.Signature},
		field{"Fingerprint", c.Fingerprint},
		field{"Imported", a.moment(c.CreatedAt)})
	for _, e := range c.Endpoints {
		list = append(list, field{"Seen at", fmt.Sprintf("%s %s, since %s, last %s", e.Kind, e.Place, a.moment(e.FirstSeenAt), a.moment(e.LastSeenAt))})
	}
	return a.fields(list...)
}

func (a *app) importedDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete FINGERPRINT",
		Short:   "Take a certificate of another CA out of the inventory",
		Example: "  certloom imported delete 5f0c1a2b3c4d5e6f",
		Args:    args("FINGERPRINT"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			fingerprint, err := importedOf(cmd, api, names[0])
			if err != nil {
				return err
			}
			if err := api.DeleteImported(cmd.Context(), fingerprint); err != nil {
				return err
			}
			a.note("Imported certificate %s was deleted.", fingerprint[:16])
			return nil
		},
	}
}
