package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/certloom/certloom/internal/agent"
)

// flagGroup is a part of the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

func (o *options) group(title string) *pflag.FlagSet {
	flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
	flags.SortFlags = false
	o.groups = append(o.groups, flagGroup{title, flags})
	return flags
}

// issuersOf is the annotation of a flag that names the issuers that it is for. A flag without it is for all.
const issuersOf = "issuers"

// only marks all flags of a set that are not marked yet as those of these issuers.
func only(f *pflag.FlagSet, issuers ...string) {
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Annotations[issuersOf] == nil {
			flag.Annotations = map[string][]string{issuersOf: issuers}
		}
	})
}

// misplaced returns an error for each flag that is set and means nothing to the issuer that is chosen: whoever set it
// expects something that does not happen.
func (o *options) misplaced() []error {
	var problems []error
	if !slices.Contains(agent.Issuers(), o.issuer) {
		return nil // which is said already
	}
	for _, group := range o.groups {
		group.flags.VisitAll(func(flag *pflag.Flag) {
			issuers := flag.Annotations[issuersOf]
			if flag.Changed && issuers != nil && !slices.Contains(issuers, o.issuer) {
				problems = append(problems, fmt.Errorf("--%s: only for --issuer %s, not for --issuer %s",
					flag.Name, strings.Join(issuers, " and "), o.issuer))
			}
		})
	}
	return problems
}

// issuerFlags are those that decide who issues, and those of more than one issuer.
func (o *options) issuerFlags() {
	issuers := agent.Issuers()
	f := o.group("Certificate authority")
	f.StringVar(&o.issuer, "issuer", issuers[0], "where certificates come from: "+strings.Join(issuers, ", "))
	only(f, issuers...)
	f.StringVar(&o.credentialFile, "credential-file", "",
		`what "certloom credential create -o json" printed, for a profile of the enrollment method that the issuer is: agent, or one of ACME`)
	only(f, agent.IssuerCertloom, agent.IssuerACME)
	f.StringVar(&o.rootCAFile, "root-ca-file", "", "PEM file with the roots that workloads shall trust; it is read again when it changes")
	only(f, agent.IssuerACME, agent.IssuerCertManager)
}

func (o *options) certloomFlags() {
	f := o.group("Certloom server (--issuer certloom)")
	f.StringVar(&o.certloom.Server, "server", "", "the server's agent listener, such as https://certloom.example.com:8444 (default: what the credential file says)")
	f.StringVar(&o.certloom.ServerCAFile, "server-ca-file", "", "PEM file with the root of the server's certificate (default: what the system trusts)")
	only(f, agent.IssuerCertloom)
}
