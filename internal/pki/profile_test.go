package pki_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/pki"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		want time.Duration
		text string // as it is written again
	}{
		"30s":    {30 * time.Second, "30s"},
		"90m":    {90 * time.Minute, "1h30m"},
		"60m":    {time.Hour, "1h"},
		"10m":    {10 * time.Minute, "10m"},
		"24h":    {24 * time.Hour, "24h"},
		"47h":    {47 * time.Hour, "47h"},
		"48h":    {48 * time.Hour, "2d"},
		"1h0m1s": {time.Hour + time.Second, "1h0m1s"},
		"49h30m": {49*time.Hour + 30*time.Minute, "49h30m"},
		"1.5h":   {90 * time.Minute, "1h30m"},
		"100ms":  {100 * time.Millisecond, "100ms"},
		"1d":     {24 * time.Hour, "24h"},
		"30d":    {30 * 24 * time.Hour, "30d"},
		"030d":   {30 * 24 * time.Hour, "30d"},
		"10y":    {3650 * 24 * time.Hour, "3650d"},
		"100y":   {36500 * 24 * time.Hour, "36500d"},
		"36500d": {36500 * 24 * time.Hour, "36500d"},
	}
	for text, test := range tests {
		got, err := pki.ParseDuration(text)
		if err != nil || time.Duration(got) != test.want {
			t.Errorf("ParseDuration(%q) = %v, %v", text, got, err)
		}
		if got.String() != test.text {
			t.Errorf("%q is written as %q, want %q", text, got, test.text)
		}
		if again, err := pki.ParseDuration(got.String()); err != nil || again != got {
			t.Errorf("%q is read as %v, %v", got, again, err)
		}
	}
	for _, text := range []string{
		"", "0", "0s", "0d", "-1h", "-30d", "+30d", "30", "d", "y", "1.5d", "1e3d", "30D", "1w", "30 d", " 30d", "1d12h", "12h1d", "101y", "36501d",
		"100y1s", "9999999999d", "4294967297d", "99999999999999999999d", "876001h", "1h\n", "一d", strings.Repeat("9", 1000) + "h",
	} {
		d, err := pki.ParseDuration(text)
		if err == nil {
			t.Errorf("accepted %.40q as %v", text, d)
			continue
		}
		checkSentence(t, err, "positive number with a unit")
	}
}

func TestDurationJSON(t *testing.T) {
	t.Parallel()
	v := pki.Validity{Default: pki.Duration(24 * time.Hour), Max: pki.Duration(30 * 24 * time.Hour), JitterPercent: 10}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"default":"24h","max":"30d","backdate":"0s","jitterPercent":10}`; string(raw) != want {
		t.Errorf("written as %s, want %s", raw, want)
	}
	var again pki.Validity
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, again); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	for _, text := range []string{`24`, `"24"`, `"-1h"`, `{}`, `[]`, `true`, `""`, `null`, `"1d\u0000"`} {
		d := pki.Duration(7)
		err := d.UnmarshalJSON([]byte(text))
		if err == nil {
			t.Errorf("accepted %s as %v", text, d)
			continue
		}
		if d != 7 {
			t.Errorf("%s changed the value to %v", text, d)
		}
		checkSentence(t, err, "duration")
	}
}
