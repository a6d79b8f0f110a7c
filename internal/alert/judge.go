package alert

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const (
	// maxFired bounds what one evaluation begins: what is more waits for the next one.
	maxFired = 500
	// maxOpen bounds the alerts of a rule. Whoever has so many does not read them one by one.
	maxOpen = 10_000
	// lookBack is how far a rule that was never evaluated looks back.
	lookBack = 7 * 24 * time.Hour
	// overlap is how far each evaluation looks back before the last one: clocks of replicas differ.
	overlap = 10 * time.Second
)

// finding is a subject that a rule is about now.
type finding struct {
	subject, summary string
	labels           map[string]string
}

// judge compares what is the case with the alerts that are open.
func (e *Evaluator) judge(ctx context.Context, rule *pki.AlertRule, open []pki.Alert) (*pki.AlertChange, error) {
	now := e.Now()
	change := &pki.AlertChange{Rule: rule.Name, Turn: rule.Turn, CheckedAt: now}
	if rule.Kind == pki.AlertIdentityHealth {
		return change, e.judgeIdentities(ctx, rule, open, change)
	}
	found, err := e.find(ctx, rule, now)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for i := range open {
		known[open[i].Subject] = true
		if _, still := found[open[i].Subject]; !still {
			change.Resolved = append(change.Resolved, open[i].ID)
		}
	}
	for _, f := range sorted(found) {
		if !known[f.subject] {
			if err := e.fire(rule, f, change); err != nil {
				return nil, err
			}
		}
	}
	return change, nil
}

// fire begins an alert.
func (e *Evaluator) fire(rule *pki.AlertRule, f finding, change *pki.AlertChange) error {
	id, err := pki.NewID[pki.AlertID](change.CheckedAt, e.Random)
	if err != nil {
		return err
	}
	change.Fired = append(change.Fired, pki.Alert{
		ID: id, Rule: rule.Name, Kind: rule.Kind, Subject: f.subject, Severity: rule.Severity, Summary: f.summary, Labels: f.labels,
		FiredAt: change.CheckedAt,
	})
	return nil
}

// judgeIdentities looks at the identities that have begun to lapse since the last evaluation, and at those of which there is an
// alert: never at the rest of the estate.
func (e *Evaluator) judgeIdentities(ctx context.Context, rule *pki.AlertRule, open []pki.Alert, change *pki.AlertChange) error {
	known, err := e.recovered(ctx, rule, open, change)
	if err != nil {
		return err
	}
	now := change.CheckedAt
	from := rule.CheckedAt.Add(-overlap)
	if rule.CheckedAt.IsZero() {
		from = now.Add(-lookBack)
	}
	for after := int64(0); ; {
		found, last, err := e.Facts.IdentitiesLapsedBetween(ctx, rule.Settings.Status, from, now, after, maxFired)
		if err != nil {
			return err
		}
		for i := range found {
			if known[found[i].Name] || !lapses(rule, found[i].Status(now)) || !e.inScope(&rule.Settings, &found[i]) || len(open)+len(change.Fired) >= maxOpen {
				continue
			}
			if err := e.fire(rule, e.lapsing(&found[i], now), change); err != nil {
				return err
			}
		}
		if len(found) < maxFired {
			return nil
		}
		if after = last; len(change.Fired) >= maxFired {
			change.CheckedAt = rule.CheckedAt // the rest is found by the next evaluation, which begins where this one did
			if rule.CheckedAt.IsZero() {
				change.CheckedAt = from
			}
			return nil
		}
	}
}

// recovered ends the alerts of identities that lapse no more, and returns of which identities there was an alert.
func (e *Evaluator) recovered(ctx context.Context, rule *pki.AlertRule, open []pki.Alert, change *pki.AlertChange) (map[string]bool, error) {
	known := map[string]bool{}
	for i := range open {
		known[open[i].Subject] = true
		identity, err := e.Facts.Identity(ctx, open[i].Subject)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if err != nil || !lapses(rule, identity.Status(change.CheckedAt)) {
			change.Resolved = append(change.Resolved, open[i].ID)
		}
	}
	return known, nil
}

// lapses says whether a status is what a rule is about.
func lapses(rule *pki.AlertRule, status pki.IdentityStatus) bool {
	return status == pki.IdentityLapsed || status == pki.IdentityLapsing && rule.Settings.Status != pki.IdentityLapsed
}

func (e *Evaluator) lapsing(i *pki.Identity, now time.Time) finding {
	f := finding{subject: i.Name, labels: labels("namespace", i.Namespace, "trust_domain", i.TrustDomain, "service_account", i.ServiceAccount,
		"cluster", i.Cluster, "profile", e.profileName(i.ProfileID), "serial", string(i.Newest), "not_after", stamp(i.NotAfter))}
	switch {
	case !i.RevokedAt.IsZero():
		f.summary = fmt.Sprintf("%s has a revoked certificate and no newer one", i.Name)
	case now.After(i.NotAfter):
		f.summary = fmt.Sprintf("%s has not renewed its certificate, which ended %s", i.Name, stamp(i.NotAfter))
	default:
		f.summary = fmt.Sprintf("%s has not renewed its certificate, which ends %s", i.Name, stamp(i.NotAfter))
	}
	return f
}

func (e *Evaluator) profileName(id pki.ProfileID) string {
	for _, p := range e.Profiles() {
		if p.ID == id {
			return p.Name
		}
	}
	return ""
}

// inScope says whether a rule is about an identity.
func (e *Evaluator) inScope(s *pki.AlertSettings, i *pki.Identity) bool {
	if s.Profile != "" && e.profileName(i.ProfileID) != s.Profile || s.Cluster != "" && i.Cluster != s.Cluster {
		return false
	}
	if s.Namespace == "" {
		return true
	}
	ok, err := path.Match(s.Namespace, i.Namespace)
	return err == nil && ok
}

// find returns what a rule is about now, by subject.
func (e *Evaluator) find(ctx context.Context, rule *pki.AlertRule, now time.Time) (map[string]finding, error) {
	within := time.Duration(rule.Settings.Within) * time.Second
	switch rule.Kind {
	case pki.AlertCAExpiry:
		return e.expiringCAs(now, within), nil
	case pki.AlertCredentialExpiry, pki.AlertCredentialUnused:
		return e.credentials(ctx, rule, now, within)
	case pki.AlertIssuanceFailures:
		return e.failures(ctx, rule, now)
	default:
		return nil, fmt.Errorf("kind %.40q is not known to this version", string(rule.Kind))
	}
}

// expiringCAs are CAs in use whose certificates end soon.
func (e *Evaluator) expiringCAs(now time.Time, within time.Duration) map[string]finding {
	found := map[string]finding{}
	for _, ca := range e.CAs() {
		certificate, err := x509.ParseCertificate(ca.Certificate)
		if err != nil || ca.State == pki.Suspended || certificate.NotAfter.Sub(now) > within {
			continue // one that waits for its certificate has none
		}
		verb := "ends"
		if now.After(certificate.NotAfter) {
			verb = "ended"
		}
		found[ca.Name] = finding{
			subject: ca.Name, summary: fmt.Sprintf("The certificate of %s CA %s %s %s", ca.Kind, ca.Name, verb, stamp(certificate.NotAfter)),
			labels: labels("ca", ca.Name, "kind", string(ca.Kind), "not_after", stamp(certificate.NotAfter)),
		}
	}
	return found
}

// credentials are EAB credentials that end soon, or were not used for long.
func (e *Evaluator) credentials(ctx context.Context, rule *pki.AlertRule, now time.Time, within time.Duration) (map[string]finding, error) {
	all, err := e.Facts.Credentials(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]finding{}
	for i := range all {
		c := &all[i]
		profile := e.profileName(c.ProfileID)
		if c.State != pki.Active || rule.Settings.Profile != "" && profile != rule.Settings.Profile {
			continue
		}
		name := profile + "/" + c.Name
		f := finding{subject: name, labels: labels("credential", name, "profile", profile)}
		used := c.LastUsedAt
		if used.IsZero() {
			used = c.CreatedAt
		}
		switch {
		case rule.Kind == pki.AlertCredentialExpiry && !c.ExpiresAt.IsZero() && c.ExpiresAt.Sub(now) <= within:
			f.summary = fmt.Sprintf("EAB credential %s expires %s", name, stamp(c.ExpiresAt))
			if now.After(c.ExpiresAt) {
				f.summary = fmt.Sprintf("EAB credential %s expired %s", name, stamp(c.ExpiresAt))
			}
		case rule.Kind == pki.AlertCredentialUnused && c.Usable(now) && now.Sub(used) >= within:
			f.summary = fmt.Sprintf("EAB credential %s was not used since %s", name, stamp(used))
		default:
			continue
		}
		found[name] = f
	}
	return found, nil
}

// failures are reasons for which more requests for certificates were refused in the last hour than the rule allows.
func (e *Evaluator) failures(ctx context.Context, rule *pki.AlertRule, now time.Time) (map[string]finding, error) {
	all, err := e.Facts.Refusals(ctx, now)
	if err != nil {
		return nil, err
	}
	found := map[string]finding{}
	for _, r := range all {
		if !issuing(r.Action) || r.LastHour < max(rule.Settings.Count, 1) {
			continue
		}
		subject := r.Action + "/" + r.Problem
		reason := r.Problem
		if reason == "" {
			reason = "no reason recorded"
		}
		found[subject] = finding{
			subject: subject, summary: fmt.Sprintf("Requests for certificates were refused %d or more times in an hour: %s (%s)", max(rule.Settings.Count, 1), r.Action, reason),
			labels: labels("action", r.Action, "problem", r.Problem),
		}
	}
	return found, nil
}

// issuing tells refusals on the way to a certificate from those of people who sign in.
func issuing(action string) bool {
	for _, object := range []string{"account.", "order.", "certificate.refuse", "authorization.", "agent."} {
		if strings.HasPrefix(action, object) {
			return true
		}
	}
	return false
}

// labels makes labels of pairs, leaving out those without a value.
func labels(pairs ...string) map[string]string {
	all := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			all[pairs[i]] = pairs[i+1]
		}
	}
	return all
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// sorted returns findings by subject, at most as many as one evaluation begins.
func sorted(found map[string]finding) []finding {
	var all []finding
	for _, subject := range slices.Sorted(maps.Keys(found)) {
		if len(all) == maxFired {
			break
		}
		all = append(all, found[subject])
	}
	return all
}
