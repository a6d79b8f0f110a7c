package alert

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Bounds of settings.
const (
	maxName     = 253
	maxChannels = 50
	minRepeat   = int64(5 * time.Minute / time.Second)
	maxRepeat   = int64(30 * 24 * time.Hour / time.Second)
	maxWithin   = int64(10 * 365 * 24 * time.Hour / time.Second)
	maxCount    = 1_000_000_000
)

// checks gathers what is wrong.
type checks []*fault.Error

func (c *checks) add(field, format string, args ...any) {
	*c = append(*c, fault.New(fault.Malformed, format, args...).WithField(field))
}

// Check returns all that is wrong with a rule.
func Check(rule *pki.AlertRule) []*fault.Error {
	var found checks
	s := &rule.Settings
	if !slices.Contains(pki.AlertKinds(), rule.Kind) {
		found.add("/kind", "kind %.40q is not one of %s", string(rule.Kind), joined(pki.AlertKinds()))
	}
	if !slices.Contains(pki.Severities(), rule.Severity) {
		found.add("/severity", "severity %.40q is not one of %s", string(rule.Severity), joined(pki.Severities()))
	}
	if !slices.Contains([]pki.GroupBy{pki.GroupByRule, pki.GroupByNamespace, pki.GroupByAlert}, s.GroupBy) {
		found.add("/groupBy", "grouping %.40q is not one of rule, namespace, alert", string(s.GroupBy))
	}
	if s.Repeat != 0 && (s.Repeat < minRepeat || s.Repeat > maxRepeat) {
		found.add("/repeat", "repeating every %s is not between 5m and 720h, nor 0 for never", seconds(s.Repeat))
	}
	if len(s.Channels) > maxChannels || slices.Contains(s.Channels, "") {
		found.add("/channels", "channels are not up to %d names", maxChannels)
	}
	found.scope(rule)
	found.quiet(s.Quiet)
	found.kind(rule)
	return found
}

// scope checks what a rule is narrowed to. What its kind does not look at is refused: it would promise something.
func (c *checks) scope(rule *pki.AlertRule) {
	s := &rule.Settings
	if _, err := path.Match(s.Namespace, ""); err != nil || len(s.Namespace) > maxName {
		c.add("/namespace", "namespace %.100q is not a pattern: letters with * for any and ? for one", s.Namespace)
	}
	health := rule.Kind == pki.AlertIdentityHealth
	credential := rule.Kind == pki.AlertCredentialExpiry || rule.Kind == pki.AlertCredentialUnused
	for _, one := range []struct {
		field, value string
		applies      bool
	}{
		{"/namespace", s.Namespace, health}, {"/cluster", s.Cluster, health}, {"/profile", s.Profile, health || credential},
	} {
		if one.value != "" && !one.applies {
			c.add(one.field, "%s does not narrow rules of kind %s", strings.TrimPrefix(one.field, "/"), rule.Kind)
		}
		if len(one.value) > maxName {
			c.add(one.field, "%s has more than %d bytes", strings.TrimPrefix(one.field, "/"), maxName)
		}
	}
}

func (c *checks) quiet(q *pki.QuietHours) {
	if q == nil {
		return
	}
	if _, err := time.LoadLocation(q.TimeZone); err != nil || q.TimeZone == "" || q.TimeZone == "Local" {
		c.add("/quiet/timeZone", "time zone %.60q is not a name of the IANA database, such as Europe/Berlin or UTC", q.TimeZone)
	}
	for _, one := range []struct{ field, value string }{{"/quiet/from", q.From}, {"/quiet/to", q.To}} {
		if _, err := time.Parse(clockForm, one.value); err != nil {
			c.add(one.field, "time %.20q is not of the form 22:00", one.value)
		}
	}
	if q.From == q.To {
		c.add("/quiet/to", "quiet hours from %.20q to %.20q have no length", q.From, q.To)
	}
	for i, day := range q.Days {
		if !validDay(day) {
			c.add(fmt.Sprintf("/quiet/days/%d", i), "day %.20q is not one of mon, tue, wed, thu, fri, sat, sun", day)
		}
	}
}

// kind checks what only some kinds have.
func (c *checks) kind(rule *pki.AlertRule) {
	s := &rule.Settings
	if rule.Kind == pki.AlertIdentityHealth {
		if s.Status != pki.IdentityLapsing && s.Status != pki.IdentityLapsed {
			c.add("/status", "status %.40q is not one of lapsing, lapsed", string(s.Status))
		}
	} else if s.Status != "" {
		c.add("/status", "status is of rules of kind %s only", pki.AlertIdentityHealth)
	}
	c.limits(rule)
}

// limits checks the spans and numbers that some kinds have.
func (c *checks) limits(rule *pki.AlertRule) {
	s := &rule.Settings
	timed := rule.Kind == pki.AlertCAExpiry || rule.Kind == pki.AlertCredentialExpiry || rule.Kind == pki.AlertCredentialUnused
	switch {
	case timed && (s.Within < 1 || s.Within > maxWithin):
		c.add("/within", "within %s is not between 1s and ten years", seconds(s.Within))
	case !timed && s.Within != 0:
		c.add("/within", "within does not belong to rules of kind %s", rule.Kind)
	}
	counted := rule.Kind == pki.AlertIssuanceFailures
	switch {
	case counted && (s.Count < 1 || s.Count > maxCount):
		c.add("/count", "count %d is not between 1 and %d", s.Count, maxCount)
	case !counted && s.Count != 0:
		c.add("/count", "count is of rules of kind %s only", pki.AlertIssuanceFailures)
	}
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

func joined[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}

// Fill gives settings that were left out their usual values.
func Fill(rule *pki.AlertRule) {
	const day = int64(24 * time.Hour / time.Second)
	s := &rule.Settings
	if rule.Severity == "" {
		rule.Severity = pki.SeverityWarning
	}
	if s.GroupBy == "" {
		s.GroupBy = pki.GroupByRule
	}
	switch {
	case rule.Kind == pki.AlertIdentityHealth && s.Status == "":
		s.Status = pki.IdentityLapsing
	case s.Within != 0:
	case rule.Kind == pki.AlertCAExpiry:
		s.Within = 60 * day
	case rule.Kind == pki.AlertCredentialExpiry:
		s.Within = 14 * day
	case rule.Kind == pki.AlertCredentialUnused:
		s.Within = 90 * day
	case rule.Kind == pki.AlertIssuanceFailures && s.Count == 0:
		s.Count = 100
	}
}

// Defaults are the rules of a fresh installation.
func Defaults(now time.Time) []pki.AlertRule {
	rules := []pki.AlertRule{
		{Name: "identity-lapsing", Kind: pki.AlertIdentityHealth, Severity: pki.SeverityWarning},
		{Name: "ca-expiry", Kind: pki.AlertCAExpiry, Severity: pki.SeverityCritical},
		{Name: "credential-expiry", Kind: pki.AlertCredentialExpiry, Severity: pki.SeverityWarning},
	}
	for i := range rules {
		rules[i].Enabled, rules[i].Settings.Resolved, rules[i].CreatedAt, rules[i].UpdatedAt = true, true, now, now
		Fill(&rules[i])
	}
	return rules
}
