package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

const profileCheckLong = `Ask whether a certificate would be issued under a profile, and why not. The server asks each question that it asks
before it issues, with the same code, and issues nothing. The exit status is 1 when the certificate would be refused.

Names are given by themselves or in a CSR. Where clients of the profile need an EAB credential and none is named, one
without a limit of its own is assumed.`

func (a *app) profileCheck() *cobra.Command {
	var (
		question apiv1.PolicyQuestion
		file     string
	)
	cmd := &cobra.Command{
		Use:   "check PROFILE",
		Short: "Ask whether a certificate would be issued under a profile, and why not",
		Long:  profileCheckLong,
		Example: `  certloom profile check istio --spiffe-id spiffe://cluster.local/ns/shop/sa/web
  certloom profile check web --dns www.example.com --validity 30d
  certloom profile check istio --csr request.pem --credential 8cKbeIVSxg3pM5nA
  certloom profile check istio --spiffe-id spiffe://cluster.local/ns/shop/sa/web -o json | jq .certificate.extensions`,
		Args: args("PROFILE"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			question.Profile = names[0]
			if err := readCSR(&question, file); err != nil {
				return err
			}
			answer, err := api.CheckPolicy(cmd.Context(), question)
			if err != nil {
				return err
			}
			if err := a.print(answer, func() error { return a.showAnswer(answer) }); err != nil {
				return err
			}
			return refusedBy(answer)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&question.SPIFFEID, "spiffe-id", "", "SPIFFE ID that the certificate is to have")
	flags.StringArrayVar(&question.DNS, "dns", nil, "DNS name that the certificate is to have; may be repeated")
	flags.StringArrayVar(&question.IPs, "ip", nil, "address that the certificate is to have; may be repeated")
	flags.StringVar(&question.CommonName, "common-name", "", "common name that is asked for")
	flags.StringVar(&question.Key, "key", "", "key algorithm: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519 (default: the profile's first)")
	flags.StringVar(&file, "csr", "", "PEM file with a CSR, instead of names")
	flags.StringVar(&question.Validity, "validity", "", "lifetime that is asked for, such as 12h (default: the profile's)")
	flags.StringVar(&question.Credential, "credential", "", "KID of the EAB credential that asks")
	return cmd
}

func (a *app) profilePreview() *cobra.Command {
	var question apiv1.PolicyQuestion
	cmd := &cobra.Command{
		Use:   "preview PROFILE",
		Short: "Show an example of the certificates that a profile gives",
		Long: `Show an example of the certificates that a profile gives: the server makes up the names that a typical client asks for,
and issues nothing.`,
		Example: "  certloom profile preview istio\n  certloom profile preview istio --validity 1h -o json | jq .certificate",
		Args:    args("PROFILE"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			question.Profile = names[0]
			answer, err := api.PreviewPolicy(cmd.Context(), question)
			if err != nil {
				return err
			}
			if err := a.print(answer, func() error { return a.showAnswer(answer) }); err != nil {
				return err
			}
			return refusedBy(answer)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&question.Key, "key", "", "key algorithm: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519 (default: the profile's first)")
	flags.StringVar(&question.Validity, "validity", "", "lifetime that is asked for, such as 12h (default: the profile's)")
	flags.StringVar(&question.Credential, "credential", "", "KID of the EAB credential that asks")
	return cmd
}

// readCSR puts a file's CSR into the question, which has names otherwise.
func readCSR(q *apiv1.PolicyQuestion, file string) error {
	named := q.SPIFFEID != "" || len(q.DNS)+len(q.IPs) > 0 || q.CommonName != ""
	switch {
	case file == "" && !named:
		return UsageError(errors.New("nothing to check: give --spiffe-id, --dns, --ip, --common-name or --csr"))
	case file == "":
		return nil
	case named || q.Key != "":
		return UsageError(errors.New("--csr brings its own names and key; give no others with it"))
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return UsageError(fmt.Errorf("--csr: %w", err))
	}
	q.CSR = string(raw)
	return nil
}

// showAnswer prints a row for each question, and what would be granted.
func (a *app) showAnswer(answer *apiv1.PolicyAnswer) error {
	rows := make([][]string, 0, len(answer.Checks))
	for _, check := range answer.Checks {
		result := "ok"
		if !check.Passed {
			result = "refused"
		}
		rows = append(rows, []string{result, check.Rule, check.Sentence})
	}
	if err := a.rows([]string{"RESULT", "RULE", "WHY"}, rows); err != nil || answer.Certificate == nil {
		return err
	}
	if _, err := fmt.Fprintln(a.Stdout); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	list := []field{{"Would be issued", "yes"}, {"Lifetime", answer.Granted}, {"Issuer", answer.Certificate.Issuer}}
	for _, e := range answer.Certificate.Extensions {
		name := e.Name
		if e.Critical {
			name += " (critical)"
		}
		list = append(list, field{name, strings.Join(e.Values, ", ")})
	}
	return a.fields(list...)
}

// refusedBy is the error of a certificate that would be refused: the first reason.
func refusedBy(answer *apiv1.PolicyAnswer) error {
	if answer.Issued {
		return nil
	}
	for _, check := range answer.Checks {
		if !check.Passed {
			return fmt.Errorf("would not be issued: %s", check.Sentence)
		}
	}
	return errors.New("would not be issued")
}
