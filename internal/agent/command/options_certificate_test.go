package command_test

import (
	"testing"

	"github.com/certloom/certloom/internal/agent/command"
)

// Client certificates are taken where somebody knows which were revoked, unless an operator decides otherwise.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want bool
	}{
		"certloom":     {nil, true},
		"certloom-off": {[]string{"--enable-client-cert-authenticator=false"}, false},
		"acme":         {[]string{"--issuer=acme"}, false},
		"acme-on":      {[]string{"--issuer=acme", "--enable-client-cert-authenticator"}, true},
	} {
		if got, err := command.ClientCertificates(c.args...); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
