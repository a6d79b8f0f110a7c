package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) profileCommand() *cobra.Command {
	return a.family("profile", "Certificate profiles: who may get which certificates", []string{"profiles"},
		a.profileCreate(), a.profileList(), a.profileGet(), a.profileClone(), a.profileUpdate(),
		a.profileState("suspend", "Suspend a profile: nothing is issued under it until it is activated again", (*apiv1.Client).SuspendProfile),
		a.profileState("activate", "Activate a suspended profile", (*apiv1.Client).ActivateProfile),
		a.profileDelete(), a.profileCheck(), a.profilePreview())
}

// profileToBe is what the flags of `profile create` say besides rules.
type profileToBe struct {
	template  string
	issuingCA string
	method    string
	file      string
	suspended bool
	rules     ruleFlags
}

const profileCreateLong = `Create a certificate profile from a base template. What no flag says is the template's:

  private-mtls        mesh workloads: client and server, SPIFFE IDs and DNS names, 24h; over ACME with an EAB credential
  private-server      TLS servers: DNS names and addresses, 90d
  private-client      TLS clients, 90d
  mesh-intermediate   a mesh's own CA (istiod's plugged-in CA), 365d; through the REST API only

Names are allowed by patterns only. SPIFFE patterns are NAMESPACE/SERVICE_ACCOUNT, where * stands for any characters
but the slash. DNS patterns are a name, *.NAME (one label more), **.NAME (one or more labels more) or ** (any name).`

const profileCreateExample = `  certloom profile create istio --template private-mtls --issuing-ca issuing \
      --trust-domain cluster.local --allow-namespace '*' --allow-dns '**.svc' --validity 24h
  certloom profile create payments --template private-mtls --issuing-ca issuing --trust-domain cluster.local \
      --allow-spiffe 'payments/*' --deny-spiffe 'payments/default'
  certloom profile create web --template private-server --issuing-ca issuing --allow-dns '**.example.com' --allow-ip 10.0.0.0/8
  certloom profile create public-ish --template private-server --issuing-ca issuing --allow-dns '**.example.com' \
      --challenge http-01 --challenge dns-01 --challenge-network 10.0.0.0/8
  certloom profile create ci --template private-client --method rest-api --issuing-ca issuing --allow-dns '*.ci.example.com'
  certloom profile get istio -o yaml > istio.yaml && certloom profile create istio-2 --from-file istio.yaml`

func (a *app) profileCreate() *cobra.Command {
	var f profileToBe
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a certificate profile",
		Long:    profileCreateLong,
		Example: profileCreateExample,
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			body, err := f.body(cmd, names[0])
			if err != nil {
				return err
			}
			if err := a.raiseMaximum(cmd, api, body); err != nil {
				return err
			}
			p, err := api.CreateProfile(cmd.Context(), body)
			if err != nil {
				return err
			}
			a.next("%s", nextForProfile(p))
			return a.showProfile(p)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.template, "template", "", "private-mtls, private-server, private-client or mesh-intermediate (required)")
	flags.StringVar(&f.issuingCA, "issuing-ca", "", "name of the issuing CA (required)")
	flags.StringVar(&f.method, "method", "", "enrollment method: mtls-over-acme, acme, agent or rest-api (default: the template's)")
	flags.BoolVar(&f.suspended, "suspended", false, "create it suspended")
	flags.StringVar(&f.file, "from-file", "", "take what no flag says from a file that \"certloom profile get -o json|yaml\" wrote")
	f.rules.add(cmd)
	return cmd
}

// body is the request that the flags, and the file that they name, amount to.
func (f *profileToBe) body(cmd *cobra.Command, name string) (map[string]any, error) {
	body := map[string]any{}
	if f.file != "" {
		var err error
		if body, err = profileFromFile(f.file); err != nil {
			return nil, err
		}
	} else if err := needs(cmd, "template", "issuing-ca"); err != nil {
		return nil, err
	}
	body["name"] = name
	set(body, cmd, map[string]string{"template": f.template, "issuing-ca": f.issuingCA, "method": f.method})
	if f.suspended {
		body["state"] = "suspended"
	}
	return body, f.rules.over(cmd, body)
}

func nextForProfile(p *apiv1.Profile) string {
	switch {
	case p.Method == "rest-api":
		return "make a token for its clients: certloom token create NAME --role requester --profile " + p.Name
	case p.Rules.Challenges != nil:
		return "point ACME clients at " + p.Directory
	default:
		return "make a credential for a client: certloom credential create --profile " + p.Name + " --name CLIENT"
	}
}

// set takes flags that were given into a body; their names differ from the members' in case only.
func set(body map[string]any, cmd *cobra.Command, values map[string]string) {
	members := map[string]string{"issuing-ca": "issuingCa"}
	for flag, value := range values {
		if !cmd.Flags().Changed(flag) {
			continue
		}
		member := flag
		if known, ok := members[flag]; ok {
			member = known
		}
		body[member] = value
	}
}

// raiseMaximum lets --validity alone ask for more than the template's maximum: whoever says 30d means 30d.
func (a *app) raiseMaximum(cmd *cobra.Command, api *apiv1.Client, body map[string]any) error {
	if !cmd.Flags().Changed("validity") || cmd.Flags().Changed("max-validity") {
		return nil
	}
	validity := member(body, "rules", "validity")
	maximum, known := validity["max"].(string)
	if !known {
		templates, err := api.Templates(cmd.Context())
		if err != nil {
			return err
		}
		for _, t := range templates.Items {
			if t.Name == body["template"] {
				maximum = t.Rules.Validity.Max
			}
		}
	}
	if wanted := cmd.Flags().Lookup("validity").Value.String(); longer(wanted, maximum) {
		validity["max"] = wanted
	}
	return nil
}

func (a *app) profileList() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List certificate profiles",
		Example: "  certloom profile list\n  certloom profile list -o json | jq -r '.[].name'",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "profiles", func(after string, size int) (*apiv1.Page[apiv1.Profile], error) {
				return api.ProfilePage(cmd.Context(), after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, p := range items {
					rows = append(rows, []string{p.Name, p.Template, p.Method, p.IssuingCA, p.State, p.Rules.Validity.Default, namesSummary(&p.Rules)})
				}
				return a.rows([]string{"NAME", "TEMPLATE", "METHOD", "ISSUING CA", "STATE", "VALIDITY", "NAMES"}, rows)
			})
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

// namesSummary tells in a cell what names a profile allows.
func namesSummary(r *apiv1.Rules) string {
	const most = 60
	var parts []string
	for _, pattern := range r.Names.SPIFFE.Allow {
		for _, domain := range r.Names.SPIFFE.TrustDomains {
			parts = append(parts, "spiffe://"+domain+" "+pattern)
		}
	}
	parts = append(parts, r.Names.DNS.Allow...)
	parts = append(parts, r.Names.IP.Allow...)
	summary := strings.Join(parts, ", ")
	if r.Challenges != nil {
		summary += " (by challenge)"
	}
	return short(summary, most)
}

func (a *app) profileGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME",
		Short:   "Show a certificate profile",
		Example: "  certloom profile get istio\n  certloom profile get istio -o yaml",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.Profile(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.showProfile(p)
		},
	}
}

func (a *app) showProfile(p *apiv1.Profile) error {
	return a.print(p, func() error {
		list := []field{
			{"Name", p.Name},
			{"Template", p.Template},
			{"Issuing CA", p.IssuingCA},
			{"Enrollment", p.Method},
			{"State", p.State},
			{"Directory", p.Directory},
		}
		list = append(list, ruleFields(&p.Rules)...)
		list = append(list, field{"Version", strconv.FormatInt(p.Version, 10)}, field{"Changed", a.moment(p.UpdatedAt)})
		return a.fields(list...)
	})
}

// ruleFields are the lines of what a profile, or its template, allows and grants.
func ruleFields(r *apiv1.Rules) []field {
	list := []field{
		{"Validity", validity(&r.Validity)},
		{"Trust domains", strings.Join(r.Names.SPIFFE.TrustDomains, ", ")},
		{"SPIFFE allow", strings.Join(r.Names.SPIFFE.Allow, ", ")},
		{"SPIFFE deny", strings.Join(r.Names.SPIFFE.Deny, ", ")},
		{"DNS allow", strings.Join(r.Names.DNS.Allow, ", ")},
		{"DNS deny", strings.Join(r.Names.DNS.Deny, ", ")},
	}
	if r.Names.DNS.Wildcards {
		list = append(list, field{"DNS wildcards", "allowed"})
	}
	list = append(list,
		field{"IP allow", strings.Join(r.Names.IP.Allow, ", ")},
		field{"IP deny", strings.Join(r.Names.IP.Deny, ", ")},
		field{"Keys", strings.Join(r.Keys, ", ")},
		field{"Key usage", strings.Join(r.KeyUsage, ", ")},
		field{"Extended key usage", strings.Join(r.ExtKeyUsage, ", ")},
		field{"Subject", r.Subject},
		field{"Names at most", strconv.Itoa(r.MaxNames)},
		field{"Kept once expired", retention(r.Retention)})
	if r.Challenges != nil {
		list = append(list, field{"Challenges", strings.Join(r.Challenges.Types, ", ")},
			field{"Validates in", strings.Join(r.Challenges.Networks, ", ")})
	}
	return list
}

func retention(keep string) string {
	if keep == "0s" {
		return "as the server's settings say"
	}
	return keep
}

func validity(v *apiv1.Validity) string {
	text := v.Default + ", at most " + v.Max
	if v.JitterPercent > 0 {
		text += fmt.Sprintf(", up to %d%% shorter at random", v.JitterPercent)
	}
	return text
}

func (a *app) profileClone() *cobra.Command {
	return &cobra.Command{
		Use:     "clone NAME NEW-NAME",
		Short:   "Copy a profile under another name, without its credentials",
		Example: "  certloom profile clone istio istio-staging",
		Args:    args("NAME", "NEW-NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.CloneProfile(cmd.Context(), names[0], apiv1.CloneProfile{Name: names[1]})
			if err != nil {
				return err
			}
			a.next("%s", nextForProfile(p))
			return a.showProfile(p)
		},
	}
}

func (a *app) profileUpdate() *cobra.Command {
	var (
		rules        ruleFlags
		issuingCA    string
		method       string
		noChallenges bool
	)
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a certificate profile",
		Long: `Change a certificate profile. What no flag says stays. A flag that may be repeated replaces the whole list; "" makes
it empty. Certificates that were issued stay as they are; orders that are open are judged by the new rules.`,
		Example: `  certloom profile update istio --validity 12h
  certloom profile update istio --issuing-ca issuing-2027
  certloom profile update istio --allow-dns '**.svc' --allow-dns '**.svc.cluster.local'
  certloom profile update web --deny-dns ""`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.Profile(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			change := map[string]any{"version": p.Version}
			set(change, cmd, map[string]string{"issuing-ca": issuingCA, "method": method})
			if err := rules.over(cmd, change); err != nil {
				return err
			}
			if noChallenges {
				member(change, "rules")["challenges"] = nil
			}
			if p, err = api.UpdateProfile(cmd.Context(), names[0], change); err != nil {
				return err
			}
			return a.showProfile(p)
		},
	}
	cmd.Flags().StringVar(&issuingCA, "issuing-ca", "", "name of the issuing CA")
	cmd.Flags().StringVar(&method, "method", "", "enrollment method: mtls-over-acme, acme, agent or rest-api")
	cmd.Flags().BoolVar(&noChallenges, "no-challenges", false, "names are pre-authorized by the EAB credential")
	rules.add(cmd)
	return cmd
}

func (a *app) profileState(use, short string, call func(*apiv1.Client, context.Context, string) (*apiv1.Profile, error)) *cobra.Command {
	return &cobra.Command{
		Use:     use + " NAME",
		Short:   short,
		Example: "  certloom profile " + use + " istio",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := call(api, cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(p, func() error { return a.changed("profile", p.Name, p.State) })
		},
	}
}

func (a *app) profileDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a profile that no credential, account or certificate refers to",
		Example: "  certloom profile delete istio-staging\n  certloom profile suspend istio     # when certificates refer to it",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.DeleteProfile(cmd.Context(), names[0]); err != nil {
				return err
			}
			gone := map[string]string{"name": names[0], "state": "deleted"}
			return a.print(gone, func() error { return a.changed("profile", names[0], "deleted") })
		},
	}
}
