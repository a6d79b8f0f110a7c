package console

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// previewView is what would be issued, and why: of a profile, or of one that is still being written.
type previewView struct {
	Wrong      []string // mistakes of the draft, which nothing could be issued under
	Asked      bool     // for names that somebody typed; otherwise for an example
	Issued     bool
	Checks     []checkRow
	Facts      []fact
	Extensions []extensionRow
}

// checkRow is one question with its answer.
type checkRow struct {
	Passed               bool
	Rule, Sentence, Hint string
	Exactly              string // the API's sentence, in English, where Sentence is of another language
}

// extensionRow is an extension of a certificate, explained.
type extensionRow struct {
	Name, OID, Means string
	Critical         bool
	Values           []string
}

// extensions explains what a certificate says. Languages that have words of their own for an extension use them.
func (v *visit) extensions(d *apiv1.CertificateDetails) []extensionRow {
	if d == nil {
		return nil
	}
	rows := make([]extensionRow, 0, len(d.Extensions))
	for _, e := range d.Extensions {
		row := extensionRow{Name: e.Name, OID: e.OID, Means: e.Sentence, Critical: e.Critical, Values: e.Values}
		if key := "extension." + e.Name; v.has(key) {
			row.Name = v.text(key)
		}
		if key := "extension." + e.Name + ".means"; v.has(key) && v.lang != "en" {
			row.Means = v.text(key) // the API speaks English
		}
		rows = append(rows, row)
	}
	// The names come first: they are what people look for.
	slices.SortStableFunc(rows, func(a, b extensionRow) int { return cmp.Compare(rank(a), rank(b)) })
	return rows
}

// rank is 0 for names and 1 for everything else.
func rank(e extensionRow) int {
	if e.OID == "2.5.29.17" {
		return 0
	}
	return 1
}

// tryField is the form field for names that somebody wants to know about. It is no member of a profile.
const tryField = "_try"

// tried makes the field.
func (f *form) tried() field {
	made := f.field("textarea", tryField, "preview.try")
	made.Mono, made.Rows, made.Placeholder = true, 2, "spiffe://cluster.local/ns/shop/sa/web"
	return made
}

// tryNames puts what somebody typed into a question: a CSR, or names, one a line.
func tryNames(question body, f *form) {
	if typed := f.value(tryField); strings.Contains(typed, "-----BEGIN") {
		question["csr"] = typed
		return
	}
	var dns, ips []string
	for _, name := range f.list(tryField) {
		if strings.Contains(name, "://") {
			question["spiffeId"] = name
		} else if _, err := netip.ParseAddr(name); err == nil {
			ips = append(ips, name)
		} else {
			dns = append(dns, name)
		}
	}
	if len(dns) > 0 {
		question["dns"] = dns
	}
	if len(ips) > 0 {
		question["ips"] = ips
	}
}

// preview asks the API what would be issued, for what somebody typed or for an example. What is wrong with the question
// is part of the view.
func (v *visit) preview(question body, f *form) (previewView, error) {
	ask := v.api.PreviewPolicy
	view := previewView{Asked: f.value(tryField) != ""}
	if view.Asked {
		tryNames(question, f)
		ask = v.api.CheckPolicy
	}
	answer, err := ask(v.ctx(), question)
	if problem, ok := errors.AsType[*apiv1.Problem](err); ok && problem.Status == http.StatusBadRequest {
		view.Wrong = []string{problem.Detail}
		if len(problem.Errors) > 0 {
			view.Wrong = nil
		}
		for _, e := range problem.Errors {
			view.Wrong = append(view.Wrong, e.Detail)
		}
		return view, nil
	}
	if err != nil {
		return view, err
	}
	view.Issued = answer.Issued
	for _, check := range answer.Checks {
		view.Checks = append(view.Checks, v.checkRow(&check))
	}
	view.Facts, view.Extensions = v.exampleFacts(answer), v.extensions(answer.Certificate)
	return view, nil
}

// checkRow puts an answer into the visitor's language. The API speaks English and names patterns and numbers; other languages say
// what was decided about what, and have the API's sentence below.
func (v *visit) checkRow(check *apiv1.PolicyCheck) checkRow {
	row := checkRow{Passed: check.Passed, Rule: check.Rule, Sentence: check.Sentence, Hint: check.Hint}
	if key := "preview.rule." + check.Rule; v.has(key) {
		row.Rule = v.text(key)
	}
	key := "preview.says." + check.Rule + ".no"
	if check.Passed {
		key = "preview.says." + check.Rule + ".yes"
	}
	if v.lang == "en" || !v.has(key) {
		return row
	}
	switch sentence := v.text(key); {
	case !strings.Contains(sentence, "%s"):
		row.Sentence, row.Exactly = sentence, check.Sentence
	case check.Subject != "":
		row.Sentence, row.Exactly = v.text(key, check.Subject), check.Sentence
	}
	return row
}

// exampleFacts is what an example certificate says besides its extensions.
func (v *visit) exampleFacts(answer *apiv1.PolicyAnswer) []fact {
	c := answer.Certificate
	if c == nil {
		return nil
	}
	subject := c.Subject
	if subject == "" {
		subject = v.text("preview.subject.empty")
	}
	return []fact{
		{v.text("common.subject"), subject},
		{v.text("preview.chain"), strings.Join(answer.Chain, " ‹ ")},
		{v.text("preview.lifetime"), answer.Granted},
		{v.text("preview.notBefore"), v.stamp(c.NotBefore).Text + " UTC"},
		{v.text("preview.notAfter"), v.stamp(c.NotAfter).Text + " UTC"},
		{v.text("preview.key"), c.KeyAlgorithm},
	}
}

// draftQuestion asks about the profile that a form would make of a template, or of the profile that it changes.
func draftQuestion(f *form, edit string) body {
	draft := profileBody(f)
	draft.set("/template", f.value("/template"))
	draft.set("/name", f.value("/name"))
	if f.value("/name") == "" {
		draft.set("/name", "example-profile") // that there is none yet is nothing to complain of while somebody writes
	}
	question := body{"draft": draft}
	if edit != "" {
		question["profile"] = edit
	}
	return question
}

// editField tells a preview which profile the form changes.
const editField = "_edit"

// previewProfile shows what the form would make: in a part of the page, or by a button in all of it.
func (c *Console) previewProfile(v *visit) error {
	f := v.newForm(nil)
	edit := f.value(editField)
	if v.htmx() {
		view, err := v.preview(draftQuestion(f, edit), f)
		if err != nil {
			return err
		}
		return v.fragment("profileform", "preview", view)
	}
	var old *apiv1.Profile
	if edit != "" {
		var err error
		if old, err = v.api.Profile(v.ctx(), edit); err != nil {
			return err
		}
	}
	return v.showProfileForm(f, old)
}

// tryProfile answers on the page of a profile: would this be issued, and why not?
func (c *Console) tryProfile(v *visit) error {
	f := v.newForm(nil)
	if !v.htmx() {
		return v.showProfile(f)
	}
	view, err := v.preview(profileQuestion(v.r.PathValue("profile"), f), f)
	if err != nil {
		return err
	}
	return v.fragment("profile", "preview", view)
}

// profileQuestion asks about a profile that is there.
func profileQuestion(name string, f *form) body {
	question := body{"profile": name}
	if credential := f.value("/credential"); credential != "" {
		question["credential"] = credential
	}
	return question
}

// profileJSON hands on a profile as certloom profile create --from-file takes it.
func (c *Console) profileJSON(v *visit) error {
	name := v.r.PathValue("profile")
	return v.pass("/profiles/"+url.PathEscape(name), name+".json")
}
