package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) certificateCommand() *cobra.Command {
	return a.family("certificate", "The inventory of certificates", []string{"certificates", "cert"},
		a.certificateList(), a.certificateGet(), a.certificateRevoke(), a.certificateHold(), a.certificateRelease(), a.certificateExport(), a.certificateRequest())
}

// certificateFilter are the flags that select certificates.
type certificateFilter struct {
	query         apiv1.CertificateQuery
	issuedAfter   string
	expiresBefore string
}

func (f *certificateFilter) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.query.Text, "search", "", "part of the identity's name, beginning of a Pod's or cluster's name, serial or fingerprint")
	flags.StringVar(&f.query.Identity, "identity", "", "SPIFFE ID, DNS name or address; a prefix when it ends with *")
	flags.StringVar(&f.query.TrustDomain, "trust-domain", "", "trust domain of the SPIFFE ID")
	flags.StringVar(&f.query.Namespace, "namespace", "", "namespace of the SPIFFE ID")
	flags.StringVar(&f.query.Profile, "profile", "", "name of the profile")
	flags.StringVar(&f.query.IssuingCA, "issuing-ca", "", "name of the issuing CA")
	flags.StringVar(&f.query.Credential, "credential", "", "KID of the EAB credential, or PROFILE/NAME")
	flags.StringVar(&f.query.Account, "account", "", "ACME account")
	flags.StringVar(&f.query.Cluster, "cluster", "", "cluster of the agent that asked")
	flags.StringVar(&f.query.Pod, "pod", "", "Pod that it went to; a prefix when it ends with *")
	flags.StringVar(&f.query.Status, "status", "", "valid, renewal-due, expired, held or revoked")
	flags.StringVar(&f.query.Fingerprint, "fingerprint", "", "SHA-256 fingerprint, hexadecimal")
	flags.StringVar(&f.issuedAfter, "issued-after", "", "a time, or how long ago: 1h, 7d")
	flags.StringVar(&f.expiresBefore, "expires-before", "", "a time, or how soon: 1h, 7d")
}

// resolve completes the query.
func (f *certificateFilter) resolve(a *app, cmd *cobra.Command, api *apiv1.Client) (apiv1.CertificateQuery, error) {
	q := f.query
	var err1, err2 error
	q.IssuedAfter, err1 = a.past("issued-after", f.issuedAfter)
	q.ExpiresBefore, err2 = a.future("expires-before", f.expiresBefore)
	if err := errors.Join(err1, err2, oneOf("status", q.Status, "valid", "renewal-due", "expired", "held", "revoked")); err != nil {
		return q, err
	}
	var err error
	q.Credential, err = credentialID(cmd.Context(), api, q.Credential)
	return q, err
}

func (a *app) certificateList() *cobra.Command {
	var filter certificateFilter
	limit := 0
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates, newest first",
		Example: `  certloom certificate list
  certloom certificate list --identity 'spiffe://cluster.local/ns/payments/*'
  certloom certificate list --profile istio --status renewal-due
  certloom certificate list --expires-before 7d --limit 0 -o json`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			query, err := filter.resolve(a, cmd, api)
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "certificates", func(after string, size int) (*apiv1.Page[apiv1.Certificate], error) {
				query.After, query.Limit = after, size
				return api.Certificates(cmd.Context(), query)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, c := range items {
					rows = append(rows, []string{c.Serial, c.Status, c.Identity, c.Profile, a.when(c.NotAfter), a.when(c.IssuedAt)})
				}
				return a.rows([]string{"SERIAL", "STATUS", "IDENTITY", "PROFILE", "EXPIRES", "ISSUED"}, rows)
			})
		},
	}
	filter.add(cmd)
	limitFlag(cmd, &limit)
	return cmd
}

func limitFlag(cmd *cobra.Command, limit *int) {
	const usual = 100
	cmd.Flags().IntVar(limit, "limit", usual, "how many at most; 0: all")
}

func (a *app) certificateGet() *cobra.Command {
	asPEM, chain := false, false
	cmd := &cobra.Command{
		Use:   "get SERIAL",
		Short: "Show a certificate, or print it",
		Example: `  certloom certificate get 3476a1c2d4e5f60718293a4b5c6d7e8f90a1b2c3
  certloom certificate get 34:76:a1:c2:d4:e5:f6:07:18:29:3a:4b:5c:6d:7e:8f:90:a1:b2:c3 --pem | openssl x509 -text`,
		Args: args("SERIAL"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if chain && !asPEM {
				return UsageError(errors.New("--chain goes with --pem"))
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			if asPEM {
				text, err := api.CertificatePEM(cmd.Context(), names[0], chain)
				if err != nil {
					return err
				}
				return write(a.Stdout, string(text))
			}
			c, err := api.Certificate(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.showCertificate(c)
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the certificate as PEM")
	cmd.Flags().BoolVar(&chain, "chain", false, "with --pem: append the certificates above it")
	return cmd
}

func (a *app) showCertificate(c *apiv1.Certificate) error {
	return a.print(c, func() error {
		var w apiv1.Workload
		if c.Workload != nil {
			w = *c.Workload
		}
		lifetime := rough(c.NotAfter.Sub(c.IssuedAt))
		if c.Requested != "" && c.Requested != c.Granted {
			lifetime += " (" + c.Requested + " was asked for)"
		}
		renewAt := c.RenewAt
		if c.Status == "revoked" || c.Status == "expired" {
			renewAt = time.Time{} // too late
		}
		credential := c.Credential
		if c.CredentialName != "" {
			credential = c.CredentialName + " (" + c.Credential + ")"
		}
		return a.fields(
			field{"Serial", c.Serial},
			field{"Status", c.Status},
			field{"Identity", c.Identity},
			field{"URIs", strings.Join(c.Names.URIs, ", ")},
			field{"DNS names", strings.Join(c.Names.DNS, ", ")},
			field{"Addresses", strings.Join(c.Names.IPs, ", ")},
			field{"Profile", c.Profile},
			field{"Issuing CA", c.IssuingCA},
			field{"Not before", a.moment(c.NotBefore)},
			field{"Not after", a.moment(c.NotAfter)},
			field{"Renew at", a.moment(renewAt)},
			field{"Issued", a.moment(c.IssuedAt)},
			field{"Lifetime", lifetime},
			field{"Revoked", a.moment(c.RevokedAt)},
			field{"Reason", c.RevocationReason},
			field{"Key", c.KeyAlgorithm},
			field{"Signature", c.SignatureAlgorithm},
			field{"Fingerprint", c.Fingerprint},
			field{"Credential", credential},
			field{"Account", c.Account},
			field{"Order", c.Order},
			field{"Replaces", c.Replaces},
			field{"Client", c.UserAgent},
			field{"Address", c.Address},
			field{"Cluster", w.Cluster},
			field{"Namespace", w.Namespace},
			field{"Service account", w.ServiceAccount},
			field{"Pod", w.Pod},
			field{"Pod UID", w.PodUID},
			field{"Node", w.Node},
			field{"Impersonated by", w.ImpersonatedBy},
			field{"Known by", w.Presented})
	})
}

func (a *app) certificateRequest() *cobra.Command {
	var (
		in      apiv1.CreateCertificate
		csrFile string
		keyOut  string
		out     string
		names   requestNames
	)
	cmd := &cobra.Command{
		Use:   "request --profile P",
		Short: "Request a certificate under a profile with enrollment method rest-api",
		Long: `Request a certificate under a profile with enrollment method rest-api: for a CSR that you have, or for a new key
(P-256) that is written to a file with mode 0600 and never leaves this machine. The certificate is printed with the
certificates above it.`,
		Example: `  certloom certificate request --profile ci --csr request.csr > certificate.pem
  certloom certificate request --profile ci --dns build-1.ci.example.com --key-out key.pem --out certificate.pem
  certloom certificate request --profile batch --spiffe spiffe://cluster.local/ns/batch/sa/report --key-out key.pem --validity 1h`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needs(cmd, "profile"); err != nil {
				return err
			}
			switch {
			case csrFile != "" && (keyOut != "" || names.any()):
				return UsageError(errors.New("--csr goes with neither --key-out nor names: the CSR has both"))
			case csrFile == "" && (keyOut == "" || !names.any()):
				return UsageError(errors.New("either --csr is needed, or --key-out and at least one of --spiffe, --dns, --ip, --common-name"))
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			if csrFile != "" {
				in.CSR, err = readFile("csr", csrFile)
			} else {
				in.CSR, err = names.request(keyOut)
			}
			if err != nil {
				return err
			}
			made, err := api.CreateCertificate(cmd.Context(), in)
			if err != nil && keyOut != "" {
				// There is no certificate for this key, and the file would be in the way of the next attempt.
				err = errors.Join(err, os.Remove(keyOut))
			}
			if err != nil {
				return err
			}
			return a.deliver(made, out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Profile, "profile", "", "name of the profile (required)")
	flags.StringVar(&csrFile, "csr", "", "PEM file with a CSR (PKCS #10)")
	flags.StringVar(&keyOut, "key-out", "", "file to write a new private key to; it must not exist yet")
	flags.StringVar(&out, "out", "", "file to write the certificate and those above it to (default: standard output)")
	flags.StringVar(&in.Validity, "validity", "", "lifetime, such as 12h (default: the profile's)")
	flags.StringVar(&names.spiffe, "spiffe", "", "SPIFFE ID of the new certificate")
	flags.StringArrayVar(&names.dns, "dns", nil, "DNS name of the new certificate; may be repeated")
	flags.StringArrayVar(&names.ips, "ip", nil, "address of the new certificate; may be repeated")
	flags.StringVar(&names.commonName, "common-name", "", "common name of the new certificate's subject")
	return cmd
}

// deliver prints or writes a new certificate.
func (a *app) deliver(made *apiv1.NewCertificate, out string) error {
	if c := &made.Certificate; c.Requested != "" && c.Requested != c.Granted {
		a.note("The profile grants less than the %s that was asked for.", c.Requested)
	}
	if out != "" {
		if err := os.WriteFile(out, []byte(made.PEM+made.ChainPEM), 0o644); err != nil { //nolint:gosec // certificates are public, and servers that run as somebody else read them
			return fmt.Errorf("--out: %w", err)
		}
		a.note("Certificate %s is in %s; it expires %s.", made.Certificate.Serial, out, a.when(made.Certificate.NotAfter))
		if a.output == "table" {
			return nil
		}
	}
	return a.print(made, func() error { return write(a.Stdout, made.PEM+made.ChainPEM) })
}

// requestNames are the names of a certificate to be.
type requestNames struct {
	spiffe     string
	dns        []string
	ips        []string
	commonName string
}

func (n *requestNames) any() bool {
	return n.spiffe != "" || len(n.dns) > 0 || len(n.ips) > 0 || n.commonName != ""
}

// request makes a key, writes it to a new file, and returns a CSR in PEM. The key is written first: a certificate
// without its key would be of no use.
func (n *requestNames) request(keyOut string) (string, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: n.commonName}, DNSNames: n.dns}
	for _, text := range n.ips {
		ip := net.ParseIP(text)
		if ip == nil {
			return "", UsageError(fmt.Errorf("--ip %q is not an address", text))
		}
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	if n.spiffe != "" {
		uri, err := url.Parse(n.spiffe)
		if err != nil {
			return "", UsageError(fmt.Errorf("--spiffe %q is not a URI", n.spiffe))
		}
		template.URIs = []*url.URL{uri}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) //nolint:forbidigo // the operator's own key on the operator's machine; Go takes the system's randomness whatever is passed
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	if err := writeKey(keyOut, key); err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key) //nolint:forbidigo // as above
	if err != nil {
		return "", fmt.Errorf("make CSR: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// writeKey writes a private key to a file that must not exist: somebody may need what is in it.
func writeKey(name string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return UsageError(fmt.Errorf("--key-out: %w", err))
	}
	err = pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("--key-out: %w", err)
	}
	return nil
}
