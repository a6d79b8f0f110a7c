package policy

import (
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Rule names a question that is asked before a certificate is issued.
type Rule string

// The rules of this package; issue asks about what storage and CAs know.
const (
	RuleCredential Rule = "credential" // may this client ask under the profile?
	RuleKey        Rule = "key"        // is the key's algorithm one of the profile's?
	RuleCA         Rule = "ca"         // may it be a CA?
	RuleNames      Rule = "names"      // are the names those that were ordered, and not too many?
	RuleDNS        Rule = "dns"        // may it have this DNS name?
	RuleIP         Rule = "ip"         // may it have this address?
	RuleSPIFFE     Rule = "spiffe"     // may it have this SPIFFE ID?
	RuleSubject    Rule = "subject"    // what becomes of its common name?
	RuleLifetime   Rule = "lifetime"   // how long may it live?
)

// Check is one question with its answer.
type Check struct {
	Rule    Rule
	Subject string // what was judged, such as a name
	Says    string // why it passed; "" when it did not
	Refused error  // why it did not; nil when it passed
}

// Explain is CheckRequest for people who want to know why: it asks the same questions with the same code, and goes on
// after a refusal as far as the next question makes sense. Accepted is nil if anything is refused. Where a credential is
// needed and none is given, one without a limit of its own is assumed, and the answer says so.
func Explain(p *pki.Profile, c *pki.Credential, order []pki.Identifier, r *csr.Request) ([]Check, *Accepted) {
	if c == nil && needsCredential(p) {
		c = &pki.Credential{ProfileID: p.ID}
	}
	t := &trail{}
	accepted, err := judge(p, c, order, r, t)
	if err != nil || t.refused() {
		return t.checks, nil
	}
	return t.checks, accepted
}

// trail keeps the questions that were asked and their answers. A nil trail keeps nothing, and the first refusal ends
// the judging: that is how certificates are issued.
type trail struct{ checks []Check }

// note keeps an answer. It returns the refusal if the judging must end with it.
func (t *trail) note(rule Rule, subject string, err error, says func() string) error {
	if t == nil {
		return err
	}
	check := Check{Rule: rule, Subject: subject, Refused: err}
	if err == nil {
		check.Says = says()
	}
	t.checks = append(t.checks, check)
	return nil
}

// last is note for a question without whose good answer the next ones make no sense.
func (t *trail) last(rule Rule, subject string, err error) error {
	if err != nil && t != nil {
		t.checks = append(t.checks, Check{Rule: rule, Subject: subject, Refused: err})
	}
	return err
}

func (t *trail) refused() bool {
	for _, check := range t.checks {
		if check.Refused != nil {
			return true
		}
	}
	return false
}

// allowedBy ends a sentence about a name that is allowed: by which patterns of whom. It is asked after the judging, and
// finds what the judging has found.
func allowedBy(p *pki.Profile, c *pki.Credential, find func(*pki.NameRules) string) string {
	says := fmt.Sprintf("is allowed by %s of profile %q", find(&p.Rules.Names), p.Name)
	if c != nil && c.Limit != nil {
		says += fmt.Sprintf(", and by %s of credential %q", find(c.Limit), c.Name)
	}
	return says
}

// patternOf names the first pattern that matches.
func patternOf[T any](patterns []T, matches func(T) bool) string {
	for _, pattern := range patterns {
		if matches(pattern) {
			return fmt.Sprintf("pattern %q", fmt.Sprint(pattern))
		}
	}
	return "no pattern"
}

// credentialSays tells why a client may ask.
func credentialSays(p *pki.Profile, c *pki.Credential) string {
	switch {
	case c != nil && c.ID == "":
		return fmt.Sprintf("clients of profile %q need an EAB credential; one without a limit of its own is assumed here", p.Name)
	case c != nil:
		return fmt.Sprintf("EAB credential %q belongs to profile %q", c.Name, p.Name)
	case p.Rules.Challenges != nil:
		return fmt.Sprintf("profile %q needs no credential: clients prove control of each name by %s", p.Name,
			strings.Join(p.Rules.Challenges.Types, " or "))
	default:
		return fmt.Sprintf("profile %q needs no EAB credential: its clients have an API token", p.Name)
	}
}

// subjectSays tells what becomes of a common name.
func subjectSays(p *pki.Profile, asked, granted string) string {
	switch {
	case asked == "":
		return "no common name was asked for, so the subject is empty"
	case granted == "":
		return fmt.Sprintf("the common name is left out: subject rule of profile %q is %s", p.Name, p.Rules.Subject)
	default:
		return fmt.Sprintf("the common name stays: subject rule of profile %q is %s", p.Name, p.Rules.Subject)
	}
}

// subproblem is a refused identifier as an error of its own.
func subproblem(problem *fault.Subproblem) error {
	if problem == nil {
		return nil
	}
	return fault.New(problem.Kind, "%s", problem.Public)
}
