package command

import (
	"github.com/spf13/pflag"

	"github.com/certloom/certloom/internal/agent"
)

const clientCertificatesFlag = "enable-client-cert-authenticator"

func (o *options) certificateFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.clientCertificates, clientCertificatesFlag, false,
		"also accept callers without a good token that have a certificate of the mesh (default: true with --issuer certloom, which knows what was revoked)")
}

// defaultCertificates switches client certificates on where nobody has decided and the CA is asked about each: a
// Certloom server refuses the revoked ones. Other CAs tell us nothing of the kind.
func (o *options) defaultCertificates(s *agent.Settings) {
	for _, group := range o.groups {
		if flag := group.flags.Lookup(clientCertificatesFlag); flag != nil && !flag.Changed {
			s.ClientCertificates = o.issuer == agent.IssuerCertloom
		}
	}
}
