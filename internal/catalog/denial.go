package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// denials are the deny list, made for being asked at each issuance: what it costs does not grow with its length.
type denials struct {
	list       []*pki.Denial // by target
	identities map[string]*pki.Denial
	prefixes   map[string]*pki.Denial // without their *
	lengths    []int                  // those that prefixes have, each once
	pods       map[podName][]*pki.Denial
}

type podName struct{ namespace, pod string }

func newDenials(all []pki.Denial) denials {
	d := denials{
		identities: make(map[string]*pki.Denial), prefixes: make(map[string]*pki.Denial), pods: make(map[podName][]*pki.Denial),
	}
	lengths := make(map[int]bool)
	for i := range all {
		denial := &all[i]
		d.list = append(d.list, denial)
		prefix, isPrefix := strings.CutSuffix(denial.Identity, "*")
		switch {
		case denial.Pod != "":
			name := podName{denial.Namespace, denial.Pod}
			d.pods[name] = append(d.pods[name], denial)
		case isPrefix && !wildcard(denial.Identity):
			d.prefixes[prefix] = denial
			lengths[len(prefix)] = true
		default:
			d.identities[denial.Identity] = denial
		}
	}
	d.lengths = slices.Sorted(maps.Keys(lengths))
	slices.SortFunc(d.list, func(a, b *pki.Denial) int { return strings.Compare(a.Target(), b.Target()) })
	return d
}

// wildcard reports whether a name is a wildcard DNS name, whose * is at its beginning.
func wildcard(name string) bool { return strings.HasPrefix(name, "*.") }

// name finds what denies a name.
func (d *denials) name(name string, now time.Time) *pki.Denial {
	if found := d.identities[name]; found != nil && !found.Ended(now) {
		return found
	}
	for _, n := range d.lengths {
		if n > len(name) {
			break
		}
		if found := d.prefixes[name[:n]]; found != nil && !found.Ended(now) {
			return found
		}
	}
	return nil
}

// pod finds what denies a workload's Pod.
func (d *denials) pod(w *pki.Workload, now time.Time) *pki.Denial {
	if len(d.pods) == 0 || w.Pod == "" {
		return nil
	}
	for _, found := range d.pods[podName{w.Namespace, w.Pod}] {
		if (found.Cluster == "" || found.Cluster == w.Cluster) && !found.Ended(now) {
			return found
		}
	}
	return nil
}

// Denials returns the deny list by target, also what has ended and was not removed yet.
func (s *Snapshot) Denials() []*pki.Denial { return slices.Clone(s.denials.list) }

// DeniedPod returns what denies the workload's Pod certificates, or nil.
func (s *Snapshot) DeniedPod(w *pki.Workload, now time.Time) *pki.Denial {
	return s.denials.pod(w, now)
}

// Denied returns what denies a certificate with these names to this workload, or nil. One name that is denied is enough.
func (s *Snapshot) Denied(names *pki.Names, w *pki.Workload, now time.Time) *pki.Denial {
	if len(s.denials.list) == 0 {
		return nil
	}
	for _, list := range [...][]string{names.URIs, names.DNS, names.IPs} {
		for _, name := range list {
			if found := s.denials.name(name, now); found != nil {
				return found
			}
		}
	}
	return s.denials.pod(w, now)
}

// Denied says whether a certificate with these names may be issued to this workload: it returns Unauthorized with the
// entry of the deny list, and Unavailable while it is not known what the list has.
func (c *Catalog) Denied(names *pki.Names, w *pki.Workload) error {
	current, err := c.Current()
	if err != nil {
		return err
	}
	if found := current.Denied(names, w, c.config.Now()); found != nil {
		return Refusal(found)
	}
	return nil
}

// Refusal is what those hear who ask for a certificate that is denied. The note is not for them.
func Refusal(d *pki.Denial) error {
	until := "until that is lifted"
	if !d.Until.IsZero() {
		until = "until " + d.Until.UTC().Format(time.RFC3339)
	}
	hint := "certloom identity allow " + d.Target()
	if d.Pod != "" {
		hint = "certloom identity allow --pod " + d.Target()
	}
	return fault.New(fault.Unauthorized, "%.300q was denied certificates at %s, %s", d.Target(), d.CreatedAt.UTC().Format(time.RFC3339), until).
		WithHint("%s", hint)
}

// NewDenial is what an operator says of an entry of the deny list.
type NewDenial struct {
	Identity  string
	Cluster   string
	Namespace string
	Pod       string
	Note      string
	Until     time.Time // zero: until it is lifted
}

// Bounds of the deny list. All of it is in the memory of each replica.
const (
	maxDenials  = 10_000
	maxNote     = 500
	maxIdentity = 2048
)

// kubernetesName has the characters of names in Kubernetes.
var kubernetesName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// Deny puts an identity or a Pod on the deny list, on this replica at once and on the others within a refresh. What
// is there of the same identity or Pod is replaced. All problems of the request come at once.
func (c *Catalog) Deny(ctx context.Context, request NewDenial, by audit.By) (*pki.Denial, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	now := c.config.Now().UTC()
	if err := checkDenial(&request, now); err != nil {
		return nil, err
	}
	if len(snapshot.denials.list) >= maxDenials {
		return nil, fault.New(fault.Conflict, "the deny list has %d entries, the most that are possible", maxDenials).
			WithHint("allow some again, or deny with a prefix, such as spiffe://cluster.local/ns/demo/*")
	}
	denial := &pki.Denial{
		Identity: request.Identity, Cluster: request.Cluster, Namespace: request.Namespace, Pod: request.Pod, Note: request.Note,
		Until: request.Until.UTC().Truncate(time.Second), CreatedBy: by.Actor.Name, CreatedAt: now.Truncate(time.Second),
	}
	if request.Until.IsZero() {
		denial.Until = time.Time{}
	}
	if denial.ID, err = pki.NewID[pki.DenialID](now, c.config.Random); err != nil {
		return nil, err
	}
	var changes []audit.Change
	if denial.Note != "" {
		changes = append(changes, audit.Change{Field: "/note", New: denial.Note})
	}
	if !denial.Until.IsZero() {
		changes = append(changes, audit.Change{Field: "/until", New: denial.Until.Format(time.RFC3339)})
	}
	event := c.event(by, audit.IdentityDeny, denial.Target(), audit.Detail{Changes: changes})
	if err := c.config.Store.CreateDenial(ctx, denial, event); err != nil {
		return nil, fmt.Errorf("deny: %w", err)
	}
	c.reload(ctx)
	return denial, nil
}

// Allow takes an entry off the deny list. An ID that is not there is NotFound.
func (c *Catalog) Allow(ctx context.Context, id pki.DenialID, by audit.By) error {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(snapshot.denials.list, func(d *pki.Denial) bool { return d.ID == id })
	if at < 0 {
		return fault.New(fault.NotFound, "there is no denial %.80q", id).WithHint("list them: certloom identity denied")
	}
	old := snapshot.denials.list[at]
	event := c.event(by, audit.IdentityAllow, old.Target(), audit.Detail{})
	if err := c.config.Store.DeleteDenial(ctx, id, event); err != nil {
		return fmt.Errorf("allow: %w", err)
	}
	c.reload(ctx)
	return nil
}

func checkDenial(request *NewDenial, now time.Time) error {
	var errs []error
	add := func(field, format string, args ...any) {
		errs = append(errs, fault.New(fault.Malformed, format, args...).WithField(field))
	}
	switch {
	case request.Identity == "" && request.Pod == "":
		add("/identity", "name an identity, or a Pod with its namespace")
	case request.Identity != "" && (request.Pod != "" || request.Namespace != "" || request.Cluster != ""):
		add("/identity", "a denial is about an identity or about a Pod, not both")
	case request.Identity != "":
		checkDenied(request.Identity, add)
	default:
		checkDeniedPod(request, add)
	}
	if len(request.Note) > maxNote || strings.ContainsFunc(request.Note, unicode.IsControl) {
		add("/note", "the note is longer than %d characters, or has control characters", maxNote)
	}
	if !request.Until.IsZero() && !request.Until.After(now) {
		add("/until", "time %s is not in the future; it is %s now", request.Until.UTC().Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return errors.Join(errs...)
}

func checkDeniedPod(request *NewDenial, add func(field, format string, args ...any)) {
	for _, part := range []struct{ field, value string }{{"/namespace", request.Namespace}, {"/pod", request.Pod}} {
		if !kubernetesName.MatchString(part.value) {
			add(part.field, "%s %.100q is not a name of Kubernetes", part.field[1:], part.value)
		}
	}
	if len(request.Cluster) > 63 || strings.ContainsFunc(request.Cluster, unprintable) {
		add("/cluster", "cluster %.100q is longer than 63 characters, or has spaces or control characters", request.Cluster)
	}
}

func unprintable(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// checkDenied judges an identity or a prefix of identities. A prefix must have a trust domain or three characters: all that
// there is is not denied at once by a slip.
func checkDenied(identity string, add func(field, format string, args ...any)) {
	const shortest = 3
	prefix, isPrefix := strings.CutSuffix(identity, "*")
	if wildcard(identity) {
		prefix, isPrefix = identity, false
	}
	switch {
	case len(identity) > maxIdentity || strings.ContainsFunc(identity, unprintable):
		add("/identity", "identity %.100q is longer than %d characters, or has spaces or control characters", identity, maxIdentity)
	case strings.Contains(strings.TrimPrefix(prefix, "*."), "*"):
		add("/identity", "identity %.100q has a * that is not its last character", identity)
	case isPrefix && len(strings.TrimPrefix(prefix, "spiffe://")) < shortest:
		add("/identity", "prefix %.100q would deny nearly everything; suspend profiles or CAs for that", identity)
	}
}
