package command

import "github.com/spf13/pflag"

// ClientCertificates tells whether an agent that is started with these flags takes client certificates.
func ClientCertificates(args ...string) (bool, error) {
	o := newOptions(func(string) string { return "" })
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, group := range o.groups {
		flags.AddFlagSet(group.flags)
	}
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	settings, _ := o.settings()
	return settings.ClientCertificates, nil
}
