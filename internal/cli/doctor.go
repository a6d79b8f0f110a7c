package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

// check is one finding of the doctor.
type check struct {
	Name   string `json:"name"`
	Result string `json:"result"` // ok, warning, failed or skipped
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

const (
	good    = "ok"
	warning = "warning"
	failed  = "failed"
	skipped = "skipped"
)

func (a *app) doctorCommand() *cobra.Command {
	return a.client(&cobra.Command{
		Use:   "doctor",
		Short: "Check the way to the server, and how the server is",
		Long: `Check the way to the server, and how the server is: whether it is known and reachable, whether its certificate is
trusted, whether the clocks agree, whether the token is good, whether the server is ready, and when its CAs expire. What
is not well comes with what to do about it; the exit status is 1 if anything has failed.`,
		Example: "  certloom doctor\n  certloom doctor --server https://ca.example.com:8443 --token-file token --ca-file root.pem -o json",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{app: a}
			d.examine(cmd.Context())
			err := a.print(d.checks, func() error { return d.table() })
			if err == nil && d.count(failed) > 0 {
				err = reported{fmt.Errorf("%d checks have failed", d.count(failed))}
			}
			return err
		},
	})
}

// doctor collects findings.
type doctor struct {
	*app
	checks []check
}

func (d *doctor) add(name, result, hint, format string, args ...any) {
	d.checks = append(d.checks, check{Name: name, Result: result, Detail: fmt.Sprintf(format, args...), Hint: hint})
}

// fail adds a failure with the hint that its error has.
func (d *doctor) fail(name string, err error) {
	hint := ""
	if all := hints(err); len(all) > 0 {
		hint = all[0]
	}
	d.add(name, failed, hint, "%v", err)
}

func (d *doctor) count(result string) int {
	n := 0
	for _, c := range d.checks {
		if c.Result == result {
			n++
		}
	}
	return n
}

func (d *doctor) table() error {
	width := 0
	for _, c := range d.checks {
		width = max(width, len(c.Name))
	}
	for _, c := range d.checks {
		line := fmt.Sprintf("%-7s  %-*s  %s\n", c.Result, width, c.Name, clean(c.Detail, false))
		if c.Hint != "" {
			line += fmt.Sprintf("%-7s  %-*s  → %s\n", "", width, "", clean(c.Hint, false))
		}
		if err := write(d.Stdout, line); err != nil {
			return err
		}
	}
	summary := "Everything is well.\n"
	if bad, doubtful := d.count(failed), d.count(warning); bad+doubtful > 0 {
		summary = fmt.Sprintf("%d failed, %d to look at.\n", bad, doubtful)
	}
	return write(d.Stdout, "\n"+summary)
}

// examine runs the checks in the order in which one rests on the other, and stops where the rest would only say the
// same again.
func (d *doctor) examine(ctx context.Context) {
	c, err := d.connect()
	if err != nil {
		d.fail("connection", err)
		return
	}
	d.add("connection", good, "", "%s (from %s)", c.server, c.source)
	api, err := d.dial(c)
	if err != nil {
		d.fail("connection", err)
		return
	}
	if !d.reach(ctx, c) {
		return
	}
	if c.token == "" {
		d.add("token", failed, "sign in: certloom login --server "+c.server+" --user NAME", "none is known for this server")
		return
	}
	caller, err := api.Whoami(ctx)
	if err != nil {
		d.fail("token", err)
		return
	}
	d.add("token", good, "", "%s, role %s", caller.Name, caller.Role)
	status, err := api.Status(ctx)
	if problem, ok := errors.AsType[*apiv1.Problem](err); ok && problem.Status == http.StatusForbidden {
		d.add("server", skipped, "", "role %s may not ask how the server is", caller.Role)
		return
	}
	if err != nil {
		d.fail("server", err)
		return
	}
	d.judge(status)
}

// reach connects, which shows that there is a way and that the certificate is trusted, and compares the clocks.
func (d *doctor) reach(ctx context.Context, c *connection) bool {
	client, err := d.httpClient(c)
	if err != nil {
		d.fail("reachable", err)
		return false
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+apiv1.Prefix+"/openapi.json", nil)
	if err != nil {
		d.fail("reachable", err)
		return false
	}
	begin := d.Now()
	response, err := client.Do(request)
	if err != nil {
		d.fail("reachable", apiv1.Unreachable(c.server, err))
		return false
	}
	_ = response.Body.Close() // its content says nothing
	took := d.Now().Sub(begin)
	if response.StatusCode != http.StatusOK {
		d.add("reachable", failed, "check that --server is the address of a Certloom server, and what is in front of it",
			"%s answered %s", c.server, response.Status)
		return false
	}
	d.add("reachable", good, "", "answered in %s", took.Round(time.Millisecond))
	if state := response.TLS; state != nil && len(state.PeerCertificates) > 0 {
		d.expiry("certificate", "the server's own certificate", state.PeerCertificates[0].NotBefore, state.PeerCertificates[0].NotAfter,
			"the server renews it by itself: look at its log")
	}
	d.clock(response.Header.Get("Date"))
	return true
}

// clock compares ours with the server's. Certificates are backdated by a minute, which covers what is less.
func (d *doctor) clock(date string) {
	const much, too = 5 * time.Second, time.Minute
	theirs, err := http.ParseTime(date)
	if err != nil {
		d.add("clock", skipped, "", "the server's answer has no date")
		return
	}
	skew := d.Now().Sub(theirs).Truncate(time.Second)
	if skew < 0 {
		skew = -skew
	}
	const hint = "let both machines set their clocks by NTP"
	switch {
	case skew > too:
		d.add("clock", failed, hint, "this machine and the server differ by %s", skew)
	case skew > much:
		d.add("clock", warning, hint, "this machine and the server differ by %s", skew)
	default:
		d.add("clock", good, "", "agrees with the server's")
	}
}

// expiry judges what is left of a certificate's life.
func (d *doctor) expiry(name, what string, notBefore, notAfter time.Time, hint string) {
	const share = 5 // a fifth
	left := notAfter.Sub(d.Now())
	switch {
	case left <= 0:
		d.add(name, failed, hint, "%s expired %s", what, d.when(notAfter))
	case left < notAfter.Sub(notBefore)/share:
		d.add(name, warning, hint, "%s expires %s", what, d.when(notAfter))
	default:
		d.add(name, good, "", "%s expires %s", what, d.when(notAfter))
	}
}

// caNotice is how long before a CA expires its successor has to be made.
const caNotice = 90 * 24 * time.Hour

// judge reads what the server says of itself.
func (d *doctor) judge(status *apiv1.Status) {
	if status.Ready {
		d.add("ready", good, "", "version %s on %s, which answers in %s", status.Version, status.Database.Kind, status.Database.Answer)
	} else {
		for _, problem := range status.Problems {
			d.add("ready", failed, "look at /readyz and at the server's log", "%s", problem)
		}
	}
	if len(status.CAs) == 0 {
		d.add("CA", warning, "certloom ca create-root root && certloom ca create-issuing issuing --parent root", "there is none yet")
	}
	for _, ca := range status.CAs {
		d.judgeCA(ca)
	}
	if status.Ready { // otherwise it may not have been counted
		d.add("inventory", good, "", "%s, %d revoked; identities: %d",
			amount(status.Counts.Certificates, "certificate"), status.Counts.Revoked, status.Counts.Identities)
	}
}

func (d *doctor) judgeCA(ca apiv1.StatusCA) {
	name := "CA " + ca.Name
	left := ca.NotAfter.Sub(d.Now())
	switch {
	case ca.State == "pending":
		d.add(name, warning, "have its CSR signed (certloom ca csr "+ca.Name+"), then: certloom ca install "+ca.Name+" --certificate FILE --chain FILE",
			"waits for a certificate from an outside root")
	case left <= 0:
		d.add(name, failed, "create its successor (certloom ca create-issuing NAME --parent ROOT) and give it to the profiles (certloom profile update)",
			"expired %s", d.when(ca.NotAfter))
	case left < caNotice:
		d.add(name, warning, "create its successor now, and give it to the profiles: certloom profile update NAME --issuing-ca CA", "expires %s", d.when(ca.NotAfter))
	case ca.State != "active":
		d.add(name, warning, "certloom ca activate "+ca.Name, "is %s; it signs no certificates", ca.State)
	default:
		d.add(name, good, "", "%s, expires %s", ca.Kind, d.when(ca.NotAfter))
	}
}
