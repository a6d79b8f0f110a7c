package catalog

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// fields are a record's fields as an administrator sees them: JSON pointer to value. Lists are one value, so that
// a pattern that was added shows as a list that grew.
type fields map[string]string

// compare returns what differs, by field. Nil fields are those of a record that does not exist.
func compare(old, now fields) []audit.Change {
	names := map[string]struct{}{}
	for name := range old {
		names[name] = struct{}{}
	}
	for name := range now {
		names[name] = struct{}{}
	}
	var changes []audit.Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if old[name] != now[name] {
			changes = append(changes, audit.Change{Field: name, Old: old[name], New: now[name]})
		}
	}
	return changes
}

func profileFields(snapshot *Snapshot, p *pki.Profile) fields {
	ca := string(p.IssuingCA)
	if known, ok := snapshot.CA(p.IssuingCA); ok {
		ca = known.Name
	}
	f := fields{
		"/name":      p.Name,
		"/template":  string(p.Template),
		"/issuingCa": ca,
		"/method":    string(p.Method),
		"/state":     string(p.State),
	}
	f.add("/rules", p.Rules)
	return f
}

func credentialFields(c *pki.Credential) fields {
	f := fields{"/name": c.Name, "/state": string(c.State)}
	if !c.ExpiresAt.IsZero() {
		f["/expiresAt"] = c.ExpiresAt.Format(time.RFC3339)
	}
	if c.MaxAccounts > 0 {
		f.add("/maxAccounts", c.MaxAccounts)
	}
	if c.Limit != nil {
		f.add("/limit", c.Limit)
	}
	return f
}

func settingsFields(s pki.CASettings) fields {
	f := fields{}
	f.add("/settings", s)
	return f
}

// add flattens a value's JSON. Our vocabulary always has one.
func (f fields) add(at string, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		return
	}
	f.addRaw(at, raw)
}

func (f fields) addRaw(at string, raw json.RawMessage) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err == nil && object != nil {
		for name, member := range object {
			f.addRaw(at+"/"+name, member)
		}
		return
	}
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		f[at] = text
		return
	}
	f[at] = string(raw)
}
