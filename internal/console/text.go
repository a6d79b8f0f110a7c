package console

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// catalogue is the texts of one language by key: the file's name, a dot, and the key in it.
type catalogue map[string]string

// languages are those that the console speaks; the first is for everybody who wants none of them.
func languages() []string { return []string{"en", "ja"} }

// loadTexts reads texts/LANGUAGE/FILE.json.
func loadTexts() (map[string]catalogue, error) {
	all := make(map[string]catalogue)
	for _, lang := range languages() {
		texts, err := loadLanguage(files, "texts/"+lang)
		if err != nil {
			return nil, err
		}
		all[lang] = texts
	}
	return all, nil
}

func loadLanguage(from embed.FS, folder string) (catalogue, error) {
	entries, err := from.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("read texts: %w", err)
	}
	texts := make(catalogue)
	for _, entry := range entries {
		raw, err := from.ReadFile(path.Join(folder, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read texts: %w", err)
		}
		var part map[string]string
		if err := json.Unmarshal(raw, &part); err != nil {
			return nil, fmt.Errorf("texts %s/%s: %w", folder, entry.Name(), err)
		}
		for key, text := range part {
			texts[strings.TrimSuffix(entry.Name(), ".json")+"."+key] = text
		}
	}
	return texts, nil
}

// say returns the text of a key with its arguments put in (package fmt; %[1]s where languages differ in order). A key
// that is not there is shown as it is: the tests know all keys.
func (c catalogue) say(key string, args ...any) string {
	text, ok := c[key]
	switch {
	case !ok:
		return key
	case len(args) == 0:
		return text
	default:
		return fmt.Sprintf(text, args...)
	}
}

// count is say for a number of things: KEY.one for one thing, KEY.other for any other number.
func (c catalogue) count(key string, n int64, args ...any) string {
	form := key + ".other"
	if n == 1 {
		form = key + ".one"
	}
	return c.say(form, append([]any{number(n)}, args...)...)
}

// number writes a number with separators between thousands.
func number(n int64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// text is say in the visitor's language.
func (v *visit) text(key string, args ...any) string {
	return v.console.texts[v.lang].say(key, args...)
}

// has reports whether there is such a text.
func (v *visit) has(key string) bool { _, ok := v.console.texts[v.lang][key]; return ok }

// stamp is a moment as pages show it: by the part "time".
type stamp struct {
	ISO  string // for programs
	Text string // for people, UTC
	Ago  string // how far it is from now, "" for a moment that is none
}

// stamp returns a moment; of the zero time, one that is shown as a dash.
func (v *visit) stamp(t time.Time) stamp {
	if t.IsZero() {
		return stamp{Text: "–"}
	}
	t = t.UTC()
	s := stamp{ISO: t.Format(time.RFC3339), Text: t.Format("2006-01-02 15:04:05")}
	if distance := t.Sub(v.now); distance > 0 {
		s.Ago = v.text("common.in", v.span(distance))
	} else {
		s.Ago = v.text("common.ago", v.span(-distance))
	}
	return s
}

// span writes a length of time in its largest unit, as people say it.
func (v *visit) span(d time.Duration) string {
	const day = 24 * time.Hour
	texts := v.console.texts[v.lang]
	switch {
	case d < time.Second:
		return v.text("common.moment")
	case d < 2*time.Minute:
		return texts.count("common.seconds", int64(d/time.Second))
	case d < 2*time.Hour:
		return texts.count("common.minutes", int64(d/time.Minute))
	case d < 2*day:
		return texts.count("common.hours", int64(d/time.Hour))
	case d < 730*day:
		return texts.count("common.days", int64(d/day))
	default:
		return texts.count("common.years", int64((d+180*day)/(365*day)))
	}
}

// language chooses the visitor's language: as set, else as the browser asks for.
func (c *Console) language(r *http.Request) string {
	if cookie, err := r.Cookie(langCookie); err == nil && slices.Contains(languages(), cookie.Value) {
		return cookie.Value
	}
	tags := make([]language.Tag, 0, len(languages()))
	for _, lang := range languages() {
		tags = append(tags, language.Make(lang))
	}
	_, index := language.MatchStrings(language.NewMatcher(tags), r.Header.Get("Accept-Language"))
	return languages()[index]
}

// Themes.
const (
	themeLight = "light"
	themeDark  = "dark"
	themeAuto  = "auto" // as the visitor's system is
)

func themeOf(r *http.Request) string {
	if cookie, err := r.Cookie(themeCookie); err == nil && (cookie.Value == themeLight || cookie.Value == themeDark) {
		return cookie.Value
	}
	return themeAuto
}

// preferences keeps the language or the theme that somebody has chosen, and goes back to where he was.
func (c *Console) preferences(v *visit) error {
	const year = 365 * 24 * 60 * 60
	if lang := v.value("lang"); slices.Contains(languages(), lang) {
		v.setCookie(langCookie, lang, year)
	}
	switch theme := v.value("theme"); theme {
	case themeLight, themeDark:
		v.setCookie(themeCookie, theme, year)
	case themeAuto:
		v.setCookie(themeCookie, "", -1)
	}
	http.Redirect(v.w, v.r, local(v.value("next")), http.StatusSeeOther)
	return nil
}
