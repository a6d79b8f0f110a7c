package console_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// texts reads the catalogue of a language from its files.
func texts(t *testing.T, lang string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("texts", lang, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no texts of %s: %v", lang, err)
	}
	all := make(map[string]string)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var part map[string]string
		if err := json.Unmarshal(raw, &part); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for key, text := range part {
			all[strings.TrimSuffix(filepath.Base(path), ".json")+"."+key] = text
		}
	}
	return all
}

// verbs are the arguments that a text takes, whatever their order.
func verbs(text string) int {
	return len(regexp.MustCompile(`%(\[\d\])?[sdq]`).FindAllString(text, -1))
}

func TestLanguagesSayTheSame(t *testing.T) {
	t.Parallel()
	english, japanese := texts(t, "en"), texts(t, "ja")
	for key, text := range english {
		other, ok := japanese[key]
		switch {
		case !ok:
			t.Errorf("%s is not in Japanese", key)
		case strings.TrimSpace(text) == "" || strings.TrimSpace(other) == "":
			t.Errorf("%s is empty", key)
		case verbs(text) != verbs(other):
			t.Errorf("%s takes %d arguments in English and %d in Japanese", key, verbs(text), verbs(other))
		}
	}
	for key := range japanese {
		if _, ok := english[key]; !ok {
			t.Errorf("%s is not in English", key)
		}
	}
}

// TestKeysAreThere finds the keys that templates and handlers use as literals.
func TestKeysAreThere(t *testing.T) {
	t.Parallel()
	english := texts(t, "en")
	has := func(key string) bool {
		_, plain := english[key]
		_, counted := english[key+".other"]
		return plain || counted
	}
	uses := regexp.MustCompile(`(?:\bt|\bn|text|count|field|choice|done)\b[ (][^"\n]*?"([a-z-]+\.[a-zA-Z0-9.-]+)"`)
	for _, pattern := range []string{"templates/*.html", "templates/parts/*.html", "*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range uses.FindAllStringSubmatch(string(raw), -1) {
				if key := use[1]; !has(key) && !strings.HasSuffix(key, ".") && !strings.HasSuffix(key, ".html") && !strings.HasSuffix(key, ".css") && !strings.HasSuffix(key, ".svg") {
					t.Errorf("%s uses %q, which is no text", path, key)
				}
			}
		}
	}
}
