package alert_test

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/alert"
	"github.com/certloom/certloom/internal/pki"
)

func TestQuiet(t *testing.T) {
	t.Parallel()
	night := pki.QuietHours{TimeZone: "Europe/Berlin", From: "22:00", To: "06:00"}
	weekend := night
	weekend.Days = []string{"fri", "sat"}
	lunch := pki.QuietHours{TimeZone: "Asia/Tokyo", From: "12:00", To: "13:00", Days: []string{"wed"}}
	unreadable := pki.QuietHours{TimeZone: "Europe/Nowhere", From: "00:00", To: "23:59"}
	for _, test := range []struct {
		name  string
		quiet *pki.QuietHours
		at    string // UTC
		want  bool
	}{
		{"no quiet hours", nil, "2026-11-25T23:00:00Z", false},
		{"before they begin", &night, "2026-11-25T20:59:59Z", false},
		{"as they begin", &night, "2026-11-25T21:00:00Z", true},
		{"after midnight", &night, "2026-11-26T02:00:00Z", true},
		{"as they end", &night, "2026-11-26T05:00:00Z", false},
		{"in summer they begin an hour earlier by UTC", &night, "2026-07-01T20:00:00Z", true},
		{"in the night in which the clock goes forward", &night, "2026-03-29T03:59:59Z", true},
		{"after it", &night, "2026-03-29T04:00:00Z", false},
		{"in the hour that there is twice", &night, "2026-10-25T01:30:00Z", true},
		{"Friday night", &weekend, "2026-11-27T22:00:00Z", true},
		{"Saturday morning belongs to Friday", &weekend, "2026-11-28T04:00:00Z", true},
		{"Sunday morning belongs to Saturday", &weekend, "2026-11-29T04:00:00Z", true},
		{"Sunday night", &weekend, "2026-11-29T22:00:00Z", false},
		{"Friday morning belongs to Thursday", &weekend, "2026-11-27T04:00:00Z", false},
		{"the day is that of the zone", &lunch, "2026-11-25T03:30:00Z", true},
		{"another day", &lunch, "2026-11-26T03:30:00Z", false},
		{"a zone that is not known silences nothing", &unreadable, "2026-11-25T12:00:00Z", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, test.at)
			if err != nil {
				t.Fatal(err)
			}
			if got := alert.Quiet(test.quiet, at); got != test.want {
				t.Errorf("Quiet(%s) = %v, want %v", test.at, got, test.want)
			}
		})
	}
}
