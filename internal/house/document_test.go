package house_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/fault"
)

// A dead link in a runbook is found at the worst time.
func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	anchors := map[string][]string{}
	documents := files(t, ".md")
	for _, file := range documents {
		anchors[file] = headingAnchors(read(t, file))
	}
	for _, file := range documents {
		for _, match := range link.FindAllStringSubmatch(withoutCode(read(t, file)), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue // other people's pages are not ours to test
			}
			resolved := file
			if target != "" {
				resolved = path.Join(path.Dir(file), target)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(resolved))); err != nil {
				t.Errorf("%s: link to %s, which does not exist", file, match[1])
				continue
			}
			if anchor != "" && strings.HasSuffix(resolved, ".md") && !slices.Contains(anchors[resolved], anchor) {
				t.Errorf("%s: link to %s, but %s has no such heading", file, match[1], resolved)
			}
		}
	}
}

// withoutCode drops fenced blocks and code spans, where brackets mean something else.
func withoutCode(text string) string {
	text = regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "")
}

// headingAnchors gives the anchors that forges make of headings: lower case, spaces to hyphens, no punctuation.
func headingAnchors(text string) []string {
	text = regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")
	var anchors []string
	for _, match := range regexp.MustCompile(`(?m)^#+\s+(.+?)\s*$`).FindAllStringSubmatch(text, -1) {
		heading := strings.ToLower(match[1])
		heading = regexp.MustCompile(`[^\p{L}\p{N}\-_ ]`).ReplaceAllString(heading, "")
		anchors = append(anchors, strings.ReplaceAll(heading, " ", "-"))
	}
	return anchors
}

// A document that the index does not name is not read.
func TestDocumentsIndexed(t *testing.T) {
	t.Parallel()
	index := read(t, "docs/README.md")
	for _, file := range files(t, ".md") {
		below, ok := strings.CutPrefix(file, "docs/")
		if ok && below != "README.md" && !strings.Contains(index, "("+below+")") {
			t.Errorf("docs/README.md does not link to %s", below)
		}
	}
}

// Decisions are numbered without gaps or doubles, and named after their number.
func TestDecisionNumbers(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`)
	entries, err := os.ReadDir(filepath.Join(root, "docs", "decisions"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, entry := range entries {
		if !name.MatchString(entry.Name()) {
			t.Errorf("docs/decisions/%s is not named NNNN-title.md", entry.Name())
			continue
		}
		number := entry.Name()[:4]
		if other, ok := seen[number]; ok {
			t.Errorf("docs/decisions/%s has the number of %s", entry.Name(), other)
		}
		seen[number] = entry.Name()
		if !strings.HasPrefix(read(t, "docs/decisions/"+entry.Name()), "# "+number+" ") {
			t.Errorf("docs/decisions/%s does not begin with \"# %s \" and its title", entry.Name(), number)
		}
	}
}

// Two server versions share one PostgreSQL, and an estate moves from SQLite to PostgreSQL: the histories are one.
func TestMigrations(t *testing.T) {
	t.Parallel()
	names := func(dialect string) []string {
		found, err := filepath.Glob(filepath.Join(root, "internal", "store", "migrations", dialect, "*.sql"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Fatalf("no migration for %s", dialect)
		}
		for i := range found {
			found[i] = filepath.Base(found[i])
		}
		slices.Sort(found)
		return found
	}
	sqlite, postgres := names("sqlite"), names("postgres")
	if !slices.Equal(sqlite, postgres) {
		t.Errorf("the migrations differ:\nsqlite   %v\npostgres %v", sqlite, postgres)
	}
	numbered := regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)
	for i, name := range sqlite {
		match := numbered.FindStringSubmatch(name)
		if match == nil || match[1] != fmt.Sprintf("%04d", i+1) {
			t.Errorf("migration %s: the %d. one is not named %04d_title.sql", name, i+1, i+1)
		}
	}
}

// The reference of problem types has every type that the server can answer with, at its status.
func TestProblemTypesListed(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/reference/acme.md")
	for _, kind := range fault.Kinds() {
		meaning := kind.Meaning()
		row := regexp.MustCompile("(?m)^\\|[^|\n]*`" + meaning.ACME + "`[^|\n]*\\|[^|\n]*\\b" + strconv.Itoa(meaning.Status) + `\b`)
		if !row.MatchString(page) {
			t.Errorf("docs/reference/acme.md does not list %s with status %d", meaning.ACME, meaning.Status)
		}
	}
}

// What a document gives as a settings file is one.
func TestSettingsExamples(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")
	found := 0
	for _, file := range files(t, ".md") {
		for _, match := range block.FindAllStringSubmatch(read(t, file), -1) {
			if !strings.HasPrefix(match[1], "publicUrl:") {
				continue
			}
			found++
			if _, err := config.Parse([]byte(match[1]), "/etc/certloom"); err != nil {
				t.Errorf("%s: settings that begin with %.40q: %v", file, match[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("found no settings file in any document")
	}
}
