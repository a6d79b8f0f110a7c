package pki_test

import (
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/pki"
)

func TestAgentURI(t *testing.T) {
	t.Parallel()
	id := pki.CredentialID(strings.Repeat("0", 34) + "g0") // 22 bytes
	if !pki.ValidID(string(id)) {
		t.Fatalf("%q is no identifier", id)
	}
	uri := pki.AgentURI("cluster.local", id)
	domain, got, err := pki.ParseAgentURI(uri)
	if err != nil || domain != "cluster.local" || got != id {
		t.Errorf("%q was read as %q, %q, %v", uri, domain, got, err)
	}
	if _, err := pki.ParseSPIFFEID(uri); err == nil {
		t.Errorf("%q passes for a workload", uri)
	}
	for name, bad := range map[string]string{
		"refuses/workload":     "spiffe://cluster.local/ns/certloom/sa/agent",
		"refuses/scheme":       "https://cluster.local/certloom/agent/" + string(id),
		"refuses/no-domain":    "spiffe:///certloom/agent/" + string(id),
		"refuses/domain":       "spiffe://Cluster.local/certloom/agent/" + string(id),
		"refuses/path-before":  "spiffe://cluster.local/x/certloom/agent/" + string(id),
		"refuses/path-after":   uri + "/x",
		"refuses/no-id":        "spiffe://cluster.local/certloom/agent/",
		"refuses/short-id":     uri[:len(uri)-1],
		"refuses/upper-case":   strings.ToUpper(uri),
		"refuses/query":        uri + "?x",
		"refuses/second-agent": uri + "/certloom/agent/" + string(id),
		"refuses/empty":        "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := pki.ParseAgentURI(bad); err == nil {
				t.Errorf("%q was accepted", bad)
			}
		})
	}
}
