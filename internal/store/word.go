package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/pki"
)

// maxWord is how much of a name is stored from the place where a word begins. What a search asks for beyond that is
// compared with the name.
const maxWord = 48

// Kinds of words.
const (
	wordOfName    int64 = 0
	wordOfCluster int64 = 1
)

// nameWords returns the rest of a name from each place where one of its words begins: "shop/sa/cart-api", "cart-api" and
// "api" of spiffe://.../ns/shop/sa/cart-api, after those of the trust domain. The scheme, and "ns" and "sa", which every
// SPIFFE ID has, are no words.
func nameWords(name string) []string {
	name = strings.TrimPrefix(strings.ToLower(name), "spiffe://")
	var words []string
	for i := range len(name) {
		if !alphanumeric(name[i]) || i > 0 && alphanumeric(name[i-1]) || structural(name[i:]) && i > 0 && name[i-1] == '/' {
			continue
		}
		if word := name[i:min(len(name), i+maxWord)]; !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func structural(rest string) bool {
	return strings.HasPrefix(rest, "ns/") || strings.HasPrefix(rest, "sa/")
}

const (
	insertWord   = `INSERT INTO identity_word (word, kind, identity_id)`
	insertedWord = ` ON CONFLICT DO NOTHING`
	wordWidth    = 3
)

// word is a row of identity_word.
type word struct {
	text     string
	kind     int64
	identity int64
}

// recordWords stores the words of identities that are new, and clusters that are new to one.
func (t *tx) recordWords(ctx context.Context, records []*record) error {
	var words []word
	for _, r := range records {
		state := r.state
		if state.last != r {
			continue
		}
		if state.fresh {
			for _, text := range nameWords(r.certificate.Identity) {
				words = append(words, word{text, wordOfName, state.id})
			}
		}
		if cluster := r.certificate.Workload.Cluster; cluster != "" && cluster != state.cluster {
			words = append(words, word{cluster, wordOfCluster, state.id})
		}
	}
	return t.insertWords(ctx, words)
}

func (t *tx) insertWords(ctx context.Context, words []word) error {
	for rest := words; len(rest) > 0; {
		n := chunk(len(rest))
		args := make([]any, 0, n*wordWidth)
		for _, w := range rest[:n] {
			args = append(args, w.text, w.kind, w.identity)
		}
		if _, err := t.change(ctx, t.store().texts.words[n], args...); err != nil {
			return fmt.Errorf("insert words: %w", err)
		}
		rest = rest[n:]
	}
	return nil
}

// indexStep is how many identities get their words in one operation: few enough not to hold up issuing.
const indexStep = 100

// IndexIdentities makes the words of some identities that were stored by a version without them, and returns of how
// many; 0 when all have theirs. Until then searches for text do not find them.
func (s *Store) IndexIdentities(ctx context.Context) (int, error) {
	done := 0
	err := s.write(ctx, "index identities", func(ctx context.Context, t *tx) error {
		type unworded struct {
			id            int64
			name, cluster string
		}
		rows, err := t.query(ctx, `SELECT i.id, i.name, i.cluster FROM identity i WHERE i.worded = 0 ORDER BY i.id LIMIT $1`+t.forUpdate(), int64(indexStep))
		all, err := collect(rows, err, func(r row) (unworded, error) {
			var u unworded
			err := r.Scan(&u.id, &u.name, &u.cluster)
			return u, err
		})
		if err != nil {
			return fmt.Errorf("read identities: %w", err)
		}
		var words []word
		for _, u := range all {
			for _, text := range nameWords(u.name) {
				words = append(words, word{text, wordOfName, u.id})
			}
			if u.cluster != "" {
				words = append(words, word{u.cluster, wordOfCluster, u.id})
			}
		}
		if err := t.insertWords(ctx, words); err != nil {
			return err
		}
		for _, u := range all {
			if _, err := t.change(ctx, `UPDATE identity SET worded = 1 WHERE id = $1`, u.id); err != nil {
				return fmt.Errorf("update identity: %w", err)
			}
		}
		done = len(all)
		return nil
	})
	return done, err
}

// text is what somebody looks for, as a search understands it.
type text struct {
	terms  []string // each must be in the name, or begin a Pod's or a cluster's
	driver string   // what the index on words is asked for: the longest term from its first word on
	hex    string   // the text as hexadecimal digits, "" when it is too short or something else
	never  bool     // nothing can match
}

// maxTerms is how many words of a text count.
const maxTerms = 8

// parseText never fails: what cannot be in a name finds nothing.
func parseText(typed string) text {
	var parsed text
	for i := range len(typed) {
		if c := typed[i]; c >= 0x7f || c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return text{never: true}
		}
	}
	fields := strings.Fields(strings.ToLower(typed))
	digits := strings.TrimPrefix(strings.ReplaceAll(strings.Join(fields, ""), ":", ""), "0x")
	const short, long = 8, 64 // from the seconds of a serial's time to a fingerprint
	if len(digits) >= short && len(digits) <= long && strings.Trim(digits, "0123456789abcdef") == "" {
		parsed.hex = digits
		fields = []string{strings.Join(fields, "")}
	}
	for _, term := range fields[:min(len(fields), maxTerms)] {
		if term = strings.TrimPrefix(term, "spiffe://"); term == "" {
			continue
		}
		parsed.terms = append(parsed.terms, term)
		driver := strings.TrimLeftFunc(term, func(r rune) bool { return !alphanumeric(byte(r)) })
		for structural(driver) {
			driver = strings.TrimLeft(driver[len("ns/"):], "/.-_:*")
		}
		if driver = driver[:min(len(driver), maxWord)]; len(driver) > len(parsed.driver) {
			parsed.driver = driver
		}
	}
	return parsed
}

func (t *text) empty() bool { return len(t.terms) == 0 && !t.never }

// like is a pattern of what contains a term.
func like(term string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(term) + "%"
}

// identityConditions are those of an identity that a text finds.
func (t *text) identityConditions(w *where) {
	if t.never {
		w.add("1 = 0")
	}
	for _, term := range t.terms {
		w.add("(lower(i.name) LIKE ? ESCAPE '!' OR i.cluster LIKE ? ESCAPE '!')", like(term), like(term)[1:])
	}
}

// certificateConditions are those of a certificate that a text finds.
func (t *text) certificateConditions(w *where) {
	switch {
	case t.never:
		w.add("1 = 0")
	case t.hex != "":
		low, high := serialRange(t.hex)
		w.add(`(lower(i.name) LIKE ? ESCAPE '!' OR c.cluster >= ? AND c.cluster < ? OR c.pod >= ? AND c.pod < ?
			OR c.serial >= ? AND c.serial < ? OR c.fingerprint = ?)`, like(t.terms[0]), t.terms[0], after(t.terms[0]),
			t.terms[0], after(t.terms[0]), low, high, fingerprintOf(t.hex))
	default:
		for _, term := range t.terms {
			w.add("(lower(i.name) LIKE ? ESCAPE '!' OR c.cluster >= ? AND c.cluster < ? OR c.pod >= ? AND c.pod < ?)",
				like(term), term, after(term), term, after(term))
		}
	}
}

// firstWord reports whether a row of the index is the one with which an identity is shown: it may have several.
func (t *text) firstWord(i *pki.Identity, w word) bool {
	first := ""
	for _, text := range nameWords(i.Name) {
		if strings.HasPrefix(text, t.driver) && (first == "" || text < first) {
			first = text
		}
	}
	if w.kind == wordOfName {
		return w.text == first
	}
	return first == "" && w.text == i.Cluster
}
