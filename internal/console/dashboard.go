package console

import "github.com/certloom/certloom/internal/auth"

func (c *Console) dashboardRoutes() []route {
	return []route{
		{"GET /{$}", auth.Read, c.dashboard},
	}
}

// dashboardView is the first page after signing in.
type dashboardView struct {
	Version string
	Counts  []count
	CAs     []dashboardCA
	Trouble []string // why the server is not ready
}

// count is a number with what it counts.
type count struct{ Label, Value string }

type dashboardCA struct {
	Name, Kind string
	Expires    stamp
}

func (c *Console) dashboard(v *visit) error {
	status, err := v.api.Status(v.ctx())
	if err != nil {
		return err
	}
	view := dashboardView{Version: status.Version, Trouble: status.Problems, Counts: []count{
		{v.text("dashboard.identities"), number(status.Counts.Identities)},
		{v.text("dashboard.certificates"), number(status.Counts.Certificates)},
		{v.text("dashboard.accounts"), number(status.Counts.Accounts)},
		{v.text("dashboard.revoked"), number(status.Counts.Revoked)},
	}}
	for _, ca := range status.CAs {
		view.CAs = append(view.CAs, dashboardCA{Name: ca.Name, Kind: ca.Kind, Expires: v.stamp(ca.NotAfter)})
	}
	return v.render("dashboard", view)
}
