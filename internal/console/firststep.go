package console

import (
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
)

// step is one of the things to do on a server that has issued nothing yet.
type step struct {
	ID, Title, Text string
	Path, Link      string // where it is done; "" when it is, or the page is not there
	Done            bool
}

// firstSteps are what leads to the first certificate, with those ticked that are done.
func (v *visit) firstSteps(s *apiv1.Statistics) ([]step, error) {
	profiles, err := v.api.Profiles(v.ctx())
	if err != nil {
		return nil, err
	}
	credentials, err := v.api.Credentials(v.ctx(), "")
	if err != nil {
		return nil, err
	}
	connectors, err := v.api.Connectors(v.ctx())
	if err != nil {
		return nil, err
	}
	issuing := false
	for _, ca := range s.CAs {
		issuing = issuing || ca.Kind == string(pki.IssuingCA) && !ca.NotAfter.IsZero()
	}
	steps := []step{
		{ID: "authority", Path: "/authorities/new", Done: issuing},
		{ID: "profile", Path: "/policies/profiles/new", Done: len(profiles.Items) > 0},
		{ID: "credential", Path: "/policies/credentials/new", Done: len(credentials.Items) > 0},
		{ID: "connector", Path: "/integrations/connectors/add", Done: len(connectors.Items) > 0},
		{ID: "certificate", Path: "/inventory/certificates"},
	}
	for i := range steps {
		key := "dashboard.step." + steps[i].ID
		steps[i].Title, steps[i].Text, steps[i].Link = v.text(key), v.text(key+".text"), v.text(key+".link")
		if steps[i].Done || !v.console.serves(steps[i].Path) {
			steps[i].Path = ""
		}
	}
	return steps, nil
}

// serves reports whether there is a page at a path.
func (c *Console) serves(path string) bool {
	for _, r := range c.routes() {
		if pattern, ok := strings.CutPrefix(r.pattern, "GET "); ok && pattern == path {
			return true
		}
	}
	return false
}
