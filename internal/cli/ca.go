package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) caCommand() *cobra.Command {
	return a.family("ca", "Roots and issuing CAs", nil,
		a.caCreateRoot(), a.caCreateIssuing(), a.caList(), a.caGet(), a.caImport(), a.caCSR(), a.caInstall(),
		a.caSuspend(), a.caActivate(), a.caRevoke(), a.caSettings())
}

// caFlags are the flags of a CA to be.
type caFlags struct {
	create       apiv1.CreateCA
	pathLength   int
	trustDomains []string
	domains      []string
	settings     settingsFlags
}

func (f *caFlags) add(cmd *cobra.Command, validity string) {
	flags := cmd.Flags()
	flags.StringVar(&f.create.KeyAlgorithm, "key", "ecdsa-p256", "ecdsa-p256, ecdsa-p384, rsa-3072, rsa-4096 or ed25519")
	flags.StringVar(&f.create.CommonName, "common-name", "", "common name of the subject (default: NAME)")
	flags.StringVar(&f.create.Organization, "organization", "", "organization of the subject")
	flags.StringVar(&f.create.Validity, "validity", "", "lifetime, such as 3650d or 10y (default: "+validity+")")
	flags.IntVar(&f.pathLength, "path-length", 0, "how many CAs may be below it (default: 2 for a root, 0 for an issuing CA)")
	flags.StringArrayVar(&f.trustDomains, "permit-trust-domain", nil, "name constraint: the only trust domain of SPIFFE IDs below it; may be repeated")
	flags.StringArrayVar(&f.domains, "permit-dns", nil, "name constraint: the only domain of DNS names below it; may be repeated")
	f.settings.add(cmd)
}

// request completes what the flags have not filled in by themselves.
func (f *caFlags) request(cmd *cobra.Command, name, kind string) apiv1.CreateCA {
	in := f.create
	in.Name, in.Kind = name, kind
	if cmd.Flags().Changed("path-length") {
		in.PathLength = &f.pathLength
	}
	if len(f.trustDomains)+len(f.domains) > 0 {
		in.Constraints = &apiv1.Constraints{TrustDomains: lists(f.trustDomains), DNS: lists(f.domains)}
	}
	if f.settings.changed(cmd) {
		settings := f.settings.over(cmd, apiv1.CASettings{})
		in.Settings = &settings
	}
	return in
}

// lists keeps an empty list from becoming null.
func lists(values []string) []string {
	if values == nil {
		return []string{}
	}
	return values
}

// settingsFlags are the addresses that a CA puts into certificates.
type settingsFlags struct {
	crl, ocsp, issuer []string
}

func (f *settingsFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.crl, "crl-url", nil, "CRL address that goes into certificates; may be repeated; \"\" for none (default: this server's)")
	flags.StringArrayVar(&f.ocsp, "ocsp-url", nil, "OCSP address, in the same way")
	flags.StringArrayVar(&f.issuer, "issuer-url", nil, "address of the CA's own certificate, in the same way")
}

func (f *settingsFlags) changed(cmd *cobra.Command) bool {
	flags := cmd.Flags()
	return flags.Changed("crl-url") || flags.Changed("ocsp-url") || flags.Changed("issuer-url")
}

// over replaces what the flags name.
func (f *settingsFlags) over(cmd *cobra.Command, settings apiv1.CASettings) apiv1.CASettings {
	replace := func(flag string, values, old []string) []string {
		if !cmd.Flags().Changed(flag) {
			return lists(old)
		}
		if len(values) == 1 && values[0] == "" {
			return []string{}
		}
		return values
	}
	return apiv1.CASettings{
		CRLURLs:    replace("crl-url", f.crl, settings.CRLURLs),
		OCSPURLs:   replace("ocsp-url", f.ocsp, settings.OCSPURLs),
		IssuerURLs: replace("issuer-url", f.issuer, settings.IssuerURLs),
	}
}

func (a *app) caCreateRoot() *cobra.Command {
	var f caFlags
	cmd := &cobra.Command{
		Use:   "create-root NAME",
		Short: "Create a root: a self-signed CA that signs issuing CAs only",
		Example: `  certloom ca create-root root
  certloom ca create-root root --common-name "Example Root CA" --organization Example --validity 15y --key ecdsa-p384
  certloom ca create-root mesh-root --permit-trust-domain cluster.local   # can certify no other mesh`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.CreateCA(cmd.Context(), f.request(cmd, names[0], "root"))
			if err != nil {
				return err
			}
			a.next("create an issuing CA under it: certloom ca create-issuing NAME --parent %s", ca.Name)
			return a.showCA(ca)
		},
	}
	f.add(cmd, "10y")
	return cmd
}

func (a *app) caCreateIssuing() *cobra.Command {
	var f caFlags
	cmd := &cobra.Command{
		Use:   "create-issuing NAME",
		Short: "Create an issuing CA, under a CA of this server or an outside root",
		Long: `Create an issuing CA, under a CA of this server or an outside root.

With --parent it can be used at once. Without, it is made for a root that is kept elsewhere: the command prints the CSR
for that root, and the CA is pending until its certificate is installed (certloom ca install).`,
		Example: `  certloom ca create-issuing issuing --parent root
  certloom ca create-issuing mesh --parent root --validity 3y --path-length 1   # may sign mesh intermediates
  certloom ca create-issuing issuing > issuing.csr                             # for an outside root`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.CreateCA(cmd.Context(), f.request(cmd, names[0], "issuing"))
			if err != nil {
				return err
			}
			if ca.State != "pending" {
				a.next("create a profile with it: certloom profile create NAME --template private-mtls --issuing-ca %s --trust-domain cluster.local --allow-namespace '*'", ca.Name)
				return a.showCA(ca)
			}
			a.next("have the CSR signed, then: certloom ca install %s --certificate FILE --chain FILE", ca.Name)
			if a.output != "table" {
				return a.print(ca, nil)
			}
			csr, err := api.CACSR(cmd.Context(), ca.Name)
			if err != nil {
				return err
			}
			return write(a.Stdout, csr.PEM)
		},
	}
	f.add(cmd, "5y, but no longer than its parent")
	cmd.Flags().StringVar(&f.create.Parent, "parent", "", "name of the CA that signs it (default: an outside root will)")
	return cmd
}

// next says what is usually done after this.
func (a *app) next(format string, args ...any) {
	if a.output == "table" {
		a.note("Next: "+format, args...)
	}
}

func (a *app) showCA(ca *apiv1.CA) error {
	return a.print(ca, func() error {
		list := []field{
			{"Name", ca.Name},
			{"Kind", ca.Kind},
			{"State", ca.State},
			{"ID", ca.ID},
			{"Parent", ca.Parent},
			{"Subject", ca.Subject},
			{"Issuer", ca.Issuer},
			{"Serial", ca.Serial},
			{"Key", ca.KeyAlgorithm},
			{"Not before", a.moment(ca.NotBefore)},
			{"Not after", a.moment(ca.NotAfter)},
		}
		if ca.PathLength != nil {
			list = append(list, field{"Path length", strconv.Itoa(*ca.PathLength)})
		}
		if ca.Constraints != nil {
			list = append(list, field{"Trust domains", strings.Join(ca.Constraints.TrustDomains, ", ")},
				field{"DNS domains", strings.Join(ca.Constraints.DNS, ", ")})
		}
		list = append(list,
			field{"Fingerprint", ca.Fingerprint},
			field{"CRL", strings.Join(ca.Settings.CRLURLs, ", ")},
			field{"OCSP", strings.Join(ca.Settings.OCSPURLs, ", ")},
			field{"CA certificate", strings.Join(ca.Settings.IssuerURLs, ", ")},
			field{"Created", a.moment(ca.CreatedAt)})
		return a.fields(list...)
	})
}

func (a *app) caList() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List roots and issuing CAs",
		Example: "  certloom ca list\n  certloom ca list -o json",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "CAs", func(after string, size int) (*apiv1.Page[apiv1.CA], error) {
				return api.CAPage(cmd.Context(), after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, ca := range items {
					rows = append(rows, []string{ca.Name, ca.Kind, ca.State, ca.Parent, ca.KeyAlgorithm, a.when(ca.NotAfter), ca.ID})
				}
				return a.rows([]string{"NAME", "KIND", "STATE", "PARENT", "KEY", "EXPIRES", "ID"}, rows)
			})
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

func (a *app) caGet() *cobra.Command {
	asPEM, chain := false, false
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show a CA, or print its certificate",
		Example: `  certloom ca get root
  certloom ca get root --pem > root.pem              # what clients must trust
  certloom ca get issuing --pem --chain > chain.pem`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if chain && !asPEM {
				return UsageError(fmt.Errorf("--chain goes with --pem"))
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.CA(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			if !asPEM {
				return a.showCA(ca)
			}
			if ca.PEM == "" {
				return WithHint(fmt.Errorf("CA %q is pending: it has no certificate yet", ca.Name),
					"its CSR: certloom ca csr %s", ca.Name)
			}
			text := ca.PEM
			if chain {
				text += ca.ChainPEM
			}
			return write(a.Stdout, text)
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the certificate as PEM")
	cmd.Flags().BoolVar(&chain, "chain", false, "with --pem: append the certificates above it")
	return cmd
}

// certificateFlags are files with a CA's certificate and those above it.
type certificateFlags struct {
	certificate, chain string
}

func (f *certificateFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.certificate, "certificate", "", "PEM file with the CA's certificate; those above it may follow (required)")
	cmd.Flags().StringVar(&f.chain, "chain", "", "PEM file with the certificates above it, with the root")
}

// text is the chain as the API wants it: the CA's own certificate first.
func (f *certificateFlags) text() (string, error) {
	own, err := readFile("certificate", f.certificate)
	if err != nil || f.chain == "" {
		return own, err
	}
	above, err := readFile("chain", f.chain)
	return strings.TrimRight(own, "\n") + "\n" + above, err
}

// readFile reads a file that a flag names.
func readFile(flag, name string) (string, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", UsageError(fmt.Errorf("--%s: %w", flag, err))
	}
	return string(raw), nil
}

func (a *app) caImport() *cobra.Command {
	var (
		files    certificateFlags
		keyFile  string
		settings settingsFlags
	)
	cmd := &cobra.Command{
		Use:   "import NAME",
		Short: "Import an existing root or issuing CA with its private key",
		Long: `Import an existing root or issuing CA with its private key.

The key goes to the server over TLS and is encrypted there at once; delete the file afterwards, or keep it offline.`,
		Example: `  certloom ca import old-issuing --certificate issuing.pem --chain root.pem --key issuing-key.pem
  certloom ca import old-root --certificate root.pem --key root-key.pem`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "certificate", "key"); err != nil {
				return err
			}
			chain, err := files.text()
			if err != nil {
				return err
			}
			key, err := readFile("key", keyFile)
			if err != nil {
				return err
			}
			in := apiv1.ImportCA{Name: names[0], Chain: chain, Key: key}
			if settings.changed(cmd) {
				own := settings.over(cmd, apiv1.CASettings{})
				in.Settings = &own
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.ImportCA(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.showCA(ca)
		},
	}
	files.add(cmd)
	cmd.Flags().StringVar(&keyFile, "key", "", "PEM file with the private key, PKCS #8, PKCS #1 or SEC 1, not encrypted (required)")
	settings.add(cmd)
	return cmd
}

func (a *app) caCSR() *cobra.Command {
	return &cobra.Command{
		Use:     "csr NAME",
		Short:   "Print the CSR of an issuing CA under an outside root",
		Example: "  certloom ca csr issuing > issuing.csr",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			csr, err := api.CACSR(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(csr, func() error { return write(a.Stdout, csr.PEM) })
		},
	}
}

func (a *app) caInstall() *cobra.Command {
	var files certificateFlags
	cmd := &cobra.Command{
		Use:     "install NAME",
		Short:   "Install the certificate that an outside root made for an issuing CA",
		Example: "  certloom ca install issuing --certificate issuing.pem --chain outside-root.pem",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "certificate"); err != nil {
				return err
			}
			chain, err := files.text()
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.InstallCertificate(cmd.Context(), names[0], apiv1.InstallCertificate{Chain: chain})
			if err != nil {
				return err
			}
			return a.showCA(ca)
		},
	}
	files.add(cmd)
	return cmd
}

func (a *app) caSuspend() *cobra.Command {
	return &cobra.Command{
		Use:     "suspend NAME",
		Short:   "Suspend a CA: it signs no certificates, but still CRLs and OCSP answers",
		Example: "  certloom ca suspend issuing",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.SuspendCA(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(ca, func() error { return a.changed("CA", ca.Name, ca.State) })
		},
	}
}

func (a *app) caActivate() *cobra.Command {
	return &cobra.Command{
		Use:     "activate NAME",
		Short:   "Activate a suspended CA",
		Example: "  certloom ca activate issuing",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.ActivateCA(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(ca, func() error { return a.changed("CA", ca.Name, ca.State) })
		},
	}
}

// changed is the output of a command that sets a state.
func (a *app) changed(what, name, state string) error {
	return write(a.Stdout, fmt.Sprintf("%s %s is %s\n", what, clean(name, false), state))
}

func (a *app) caSettings() *cobra.Command {
	var settings settingsFlags
	cmd := &cobra.Command{
		Use:   "settings NAME",
		Short: "Show or replace the addresses that a CA puts into certificates",
		Long: `Show or replace the addresses that a CA puts into the certificates that it signs from now on. Addresses that no
flag names stay as they are.`,
		Example: `  certloom ca settings issuing
  certloom ca settings issuing --crl-url http://pki.example.com/issuing.crl
  certloom ca settings issuing --ocsp-url ""     # no OCSP address`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ca, err := api.CA(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			if settings.changed(cmd) {
				if ca, err = api.UpdateCASettings(cmd.Context(), names[0], settings.over(cmd, ca.Settings)); err != nil {
					return err
				}
			}
			return a.print(ca.Settings, func() error {
				return a.fields(
					field{"CRL", strings.Join(ca.Settings.CRLURLs, ", ")},
					field{"OCSP", strings.Join(ca.Settings.OCSPURLs, ", ")},
					field{"CA certificate", strings.Join(ca.Settings.IssuerURLs, ", ")})
			})
		},
	}
	settings.add(cmd)
	return cmd
}
