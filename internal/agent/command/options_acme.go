package command

import "github.com/certloom/certloom/internal/agent"

func (o *options) acmeFlags() {
	f := o.group("ACME CA (--issuer acme)")
	f.StringVar(&o.acme.DirectoryURL, "acme-directory", "", "directory URL of the CA (default: what the credential file says)")
	f.StringVar(&o.acme.CAFile, "acme-ca-file", "", "PEM file with the root of the CA's TLS certificate (default: what the system trusts)")
	f.StringVar(&o.acme.EABKeyID, "acme-eab-key-id", "", "key ID of the EAB credential, instead of --credential-file")
	f.StringVar(&o.acme.EABKeyFile, "acme-eab-key-file", "", "file with its HMAC key, as the CA gave it: base64url")
	f.StringVar(&o.acme.Email, "acme-email", "", "address that the CA may write to")
	f.StringVar(&o.acme.Profile, "acme-profile", "", "ACME profile to order under, of those that the CA's directory lists (default: the CA's choice)")
	f.StringVar(&o.acme.AccountSecret, "acme-account-secret", "certloom-agent-acme-account", "Secret that keeps the account and its key; it is made when it is not there")
	f.StringVar(&o.acme.AccountNamespace, "acme-account-namespace", "", "its namespace (default: --leader-election-namespace)")
	f.IntVar(&o.acme.Concurrency, "acme-max-concurrent-orders", 32, "orders under way at once")
	only(f, agent.IssuerACME)
}
