package cli

import (
	"archive/zip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) connectorCommand() *cobra.Command {
	return a.family("connector", "Connectors: ready packages for other systems", []string{"connectors"},
		a.connectorIstio(), a.connectorList(), a.connectorGet(), a.connectorStatus(), a.connectorDelete())
}

// connectorToBe is what the flags of `connector istio` say.
type connectorToBe struct {
	in       apiv1.CreateConnector
	expires  string
	keyFile  string
	serverCA string
	out, zip string
}

const connectorIstioLong = `Write everything that a cluster needs so that its Istio gets its certificates here: Kubernetes objects, Helm values, an
IstioOperator, a README with the steps in their order and a check after each, and a script that does them.

The package has a new EAB credential of the given name. Of a credential that exists already, only who has its HMAC key can
have a package: --hmac-key-file. What no flag says is the profile's, or Istio's own default. What could not work - a profile
for another enrollment method, a trust domain that it does not allow - is refused.`

func (a *app) connectorIstio() *cobra.Command {
	var f connectorToBe
	cmd := &cobra.Command{
		Use:   "istio --profile P --credential N --mode cert-manager|agent --out DIR",
		Short: "Write the package for an Istio cluster",
		Long:  connectorIstioLong,
		Example: `  certloom connector istio --profile istio --credential east --mode cert-manager --out east
  certloom connector istio --profile mesh --credential west --mode agent --dataplane ambient \
      --agent-image registry.example.com/certloom-agent:0.1.0 --zip west.zip
  certloom connector istio --profile istio --credential cluster-1 --hmac-key-file key --cluster prod-eu --out prod-eu`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needs(cmd, "profile", "credential"); err != nil {
				return err
			}
			if err := errors.Join(
				oneOf("mode", f.in.Mode, "cert-manager", "agent"), oneOf("dataplane", f.in.Dataplane, "sidecar", "ambient"), f.targets()); err != nil {
				return UsageError(err)
			}
			return a.makeConnector(cmd, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.in.Profile, "profile", "", "name of the certificate profile (required)")
	flags.StringVar(&f.in.Credential, "credential", "", "name of the EAB credential that is made (required)")
	flags.StringVar(&f.in.Mode, "mode", "", "cert-manager or agent; default: what the profile's enrollment method is for")
	flags.StringVar(&f.out, "out", "", "folder for the files; it must be empty or not exist")
	flags.StringVar(&f.zip, "zip", "", "file for an archive of them")
	flags.StringVar(&f.in.Name, "cluster", "", "name of the cluster, also in Istio; default: the credential's name")
	flags.StringVar(&f.in.IstioNamespace, "istio-namespace", "", "namespace of istiod; default: istio-system")
	flags.StringVar(&f.in.TrustDomain, "trust-domain", "", "default: the profile's first")
	flags.StringVar(&f.in.Dataplane, "dataplane", "", "sidecar or ambient; default: sidecar")
	flags.StringVar(&f.in.IssuerName, "issuer-name", "", "name of cert-manager's Issuer; default: certloom")
	flags.StringVar(&f.in.Email, "email", "", "contact of the ACME account; default: none")
	flags.StringVar(&f.in.AgentImage, "agent-image", "", "REGISTRY/PATH:TAG of an image with certloom-agent; default: certloom-agent")
	flags.StringVar(&f.expires, "expires", "never", "when the credential expires: 90d, 2027-01-31T00:00:00Z or never")
	flags.StringVar(&f.keyFile, "hmac-key-file", "", "file with the HMAC key of a credential that exists already")
	flags.StringVar(&f.serverCA, "server-ca-file", "", "PEM file with the root of the server's certificate, if it is of another CA and the cluster does not trust it")
	return cmd
}

// targets refuses a package that would go nowhere, or over something.
func (f *connectorToBe) targets() error {
	if f.out == "" && f.zip == "" {
		return errors.New("--out or --zip missing: the package has a secret that is shown once, so it must go somewhere")
	}
	if f.zip != "" {
		if _, err := os.Stat(f.zip); err == nil {
			return fmt.Errorf("--zip %s exists already", f.zip)
		}
	}
	entries, err := os.ReadDir(f.out)
	switch {
	case f.out == "" || errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--out: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("--out %s is not empty", f.out)
	}
	return nil
}

func (a *app) makeConnector(cmd *cobra.Command, f *connectorToBe) error {
	var err error
	if f.in.ExpiresAt, err = a.expiry("expires", f.expires); err != nil {
		return err
	}
	if f.keyFile != "" {
		raw, err := os.ReadFile(f.keyFile)
		if err != nil {
			return UsageError(fmt.Errorf("--hmac-key-file: %w", err))
		}
		f.in.HMACKey = strings.TrimSpace(string(raw))
	}
	if f.serverCA != "" {
		raw, err := os.ReadFile(f.serverCA)
		if err != nil {
			return UsageError(fmt.Errorf("--server-ca-file: %w", err))
		}
		f.in.ServerCA = string(raw)
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	made, err := api.CreateConnector(cmd.Context(), f.in)
	if err != nil {
		return err
	}
	if err := f.write(made); err != nil {
		return WithHint(fmt.Errorf("the package was made, but is not written: %w", err), "certloom connector delete %s --revoke, then make it again", made.Connector.Name)
	}
	return a.print(made.Connector, func() error {
		for i, step := range made.Steps {
			a.note("%d. %s", i+1, step.Title)
		}
		a.note("README.md has the commands and a check after each; apply.sh does them all.")
		return a.fields(
			field{"Cluster", made.Connector.Name}, field{"Credential", made.Connector.Profile + "/" + made.Connector.Credential},
			field{"Key ID", made.Connector.KeyID}, field{"Folder", f.out}, field{"Archive", f.zip},
			field{"State", "certloom connector status " + made.Connector.Name})
	})
}

// Modes of files: what is secret is for the owner only.
const (
	secretMode = 0o600
	plainMode  = 0o644
	scriptMode = 0o755
	folderMode = 0o755
)

func modeOf(file *apiv1.ConnectorFile) fs.FileMode {
	switch {
	case file.Secret:
		return secretMode
	case strings.HasSuffix(file.Name, ".sh"):
		return scriptMode
	default:
		return plainMode
	}
}

// contents are those of a file of a package.
func contents(file *apiv1.ConnectorFile) []byte {
	if file.Data != nil {
		return file.Data
	}
	return []byte(file.Text)
}

func (f *connectorToBe) write(made *apiv1.NewConnector) error {
	if f.zip != "" {
		if err := writeArchive(f.zip, made); err != nil {
			return err
		}
	}
	if f.out == "" {
		return nil
	}
	if err := os.MkdirAll(f.out, folderMode); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for i := range made.Files {
		file := &made.Files[i]
		// The server names the files, but does not choose where they go.
		path := filepath.Join(f.out, filepath.Base(file.Name))
		if err := os.WriteFile(path, contents(file), modeOf(file)); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	return nil
}

func writeArchive(path string, made *apiv1.NewConnector) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, secretMode)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	archive := zip.NewWriter(out)
	for i := range made.Files {
		file := &made.Files[i]
		header := &zip.FileHeader{Name: "certloom-istio-" + strings.ToLower(made.Connector.Name) + "/" + filepath.Base(file.Name), Method: zip.Deflate, Modified: made.Connector.CreatedAt}
		header.SetMode(modeOf(file))
		w, err := archive.CreateHeader(header)
		if err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		if _, err := w.Write(contents(file)); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func (a *app) connectorList() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List connectors, with how far their clusters have come",
		Example: "  certloom connector list",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "connectors", func(after string, size int) (*apiv1.Page[apiv1.Connector], error) {
				return api.ConnectorPage(cmd.Context(), after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, c := range items {
					rows = append(rows, []string{
						c.Name, c.Mode, c.Profile + "/" + c.Credential, c.State, strconv.FormatInt(c.Workloads, 10), a.when(c.LastIssuedAt), a.when(c.CreatedAt),
					})
				}
				return a.rows([]string{"CLUSTER", "MODE", "CREDENTIAL", "STATE", "WORKLOADS", "LAST ISSUED", "CREATED"}, rows)
			})
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

func (a *app) connectorGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get CLUSTER",
		Short:   "Show a connector: what its package was made with",
		Example: "  certloom connector get east\n  certloom connector get east -o yaml",
		Args:    args("CLUSTER"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			c, err := api.Connector(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(c, func() error {
				return a.fields(
					field{"Cluster", c.Name},
					field{"Kind", c.Kind},
					field{"Mode", c.Mode},
					field{"State", c.State},
					field{"Credential", c.Profile + "/" + c.Credential},
					field{"Key ID", c.KeyID},
					field{"Trust domain", c.TrustDomain},
					field{"Istio namespace", c.IstioNamespace},
					field{"Data plane", c.Dataplane},
					field{"Issuer", c.IssuerName},
					field{"Contact", c.Email},
					field{"Agent image", c.AgentImage},
					field{"Workloads", strconv.FormatInt(c.Workloads, 10)},
					field{"Certificates", strconv.FormatInt(c.Certificates, 10)},
					field{"Last issued", a.moment(c.LastIssuedAt)},
					field{"Created", a.moment(c.CreatedAt)},
					field{"Created by", c.CreatedBy})
			})
		},
	}
}

func (a *app) connectorStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status CLUSTER",
		Short:   "Show how far a cluster has come",
		Example: "  certloom connector status east",
		Args:    args("CLUSTER"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			status, err := api.ConnectorStatus(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(status, func() error {
				words := map[string]string{
					"credential": "Credential made", "registered": "Registered", "certificate": "First certificate", "workloads": "First workload",
				}
				fields := []field{{"Cluster", status.Connector.Name}, {"State", status.Connector.State}}
				for _, step := range status.Progress {
					at := "not yet"
					if step.Done {
						at = a.when(step.At)
					}
					fields = append(fields, field{words[step.ID], at})
				}
				return a.fields(append(fields,
					field{"Workloads", strconv.FormatInt(status.Connector.Workloads, 10)}, field{"Newest certificate", a.when(status.Connector.LastIssuedAt)})...)
			})
		},
	}
}

func (a *app) connectorDelete() *cobra.Command {
	revoke := false
	cmd := &cobra.Command{
		Use:     "delete CLUSTER",
		Short:   "Delete a connector; with --revoke its cluster obtains nothing more",
		Example: "  certloom connector delete east --revoke",
		Args:    args("CLUSTER"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.DeleteConnector(cmd.Context(), names[0], revoke); err != nil {
				return err
			}
			return a.print(map[string]string{"name": names[0]}, func() error { return a.changed("connector", names[0], "deleted") })
		},
	}
	cmd.Flags().BoolVar(&revoke, "revoke", false, "revoke its EAB credential as well")
	return cmd
}
