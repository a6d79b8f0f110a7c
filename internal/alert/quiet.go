package alert

import (
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time zones for machines and containers that have none

	"github.com/certloom/certloom/internal/pki"
)

// clockForm is how times of day are written.
const clockForm = "15:04"

// Quiet says whether a moment lies within quiet hours; nil: never. Hours that cannot be read are none: a message too many
// is better than one too few.
func Quiet(q *pki.QuietHours, now time.Time) bool {
	if q == nil {
		return false
	}
	zone, err := time.LoadLocation(q.TimeZone)
	if err != nil {
		return false
	}
	from, err := time.Parse(clockForm, q.From)
	if err != nil {
		return false
	}
	to, err := time.Parse(clockForm, q.To)
	if err != nil {
		return false
	}
	local := now.In(zone)
	minute := func(t time.Time) int { return t.Hour()*60 + t.Minute() }
	at, begin, end := minute(local), minute(from), minute(to)
	if begin < end {
		return at >= begin && at < end && onDay(q, local.Weekday())
	}
	// It lasts until the next morning, which belongs to the day on which it began.
	switch {
	case at >= begin:
		return onDay(q, local.Weekday())
	case at < end:
		return onDay(q, local.AddDate(0, 0, -1).Weekday())
	default:
		return false
	}
}

// onDay says whether quiet hours begin on a day of the week.
func onDay(q *pki.QuietHours, day time.Weekday) bool {
	return len(q.Days) == 0 || slices.Contains(q.Days, dayName(day))
}

// dayName is "mon", "tue" and so on.
func dayName(day time.Weekday) string { return strings.ToLower(day.String()[:3]) }

func validDay(name string) bool {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if dayName(day) == name {
			return true
		}
	}
	return false
}
