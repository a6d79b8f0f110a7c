package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
)

// print writes a value as JSON or YAML, or calls table for people.
func (a *app) print(value any, table func() error) error {
	switch a.output {
	case "json":
		raw, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		return write(a.Stdout, string(raw)+"\n")
	case "yaml":
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		// By way of JSON, so that both have the same names.
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		return write(a.Stdout, string(raw))
	default:
		return table()
	}
}

func write(w io.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// rows writes aligned columns under a heading.
func (a *app) rows(heading []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, row := range rows {
		for i := range row {
			if row[i] = clean(row[i], false); row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// field is one line of what is shown of one record.
type field struct {
	name, value string
}

// fields writes one record; what is empty is left out.
func (a *app) fields(list ...field) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range list {
		if f.value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", f.name, clean(f.value, false))
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// note tells a person something that is no part of the output.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.Stderr, format+"\n", args...)
}

// when writes a time as people compare it: "in 23h", "5m ago"; "" for none.
func (a *app) when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	distance := t.Sub(a.Now())
	switch {
	case distance.Abs() < time.Second:
		return "now"
	case distance > 0:
		return "in " + rough(distance)
	default:
		return rough(-distance) + " ago"
	}
}

// moment writes a time in full together with how far away it is.
func (a *app) moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + a.when(t) + ")"
}

// rough writes a duration in the unit that matters; years with days, since nobody wants to lose eleven months.
func rough(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*time.Minute {
		d = d.Round(time.Minute) // what was made for 12h a moment ago expires in 12h, not in 11h
	}
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 2*365*day:
		return fmt.Sprintf("%dd", d/day)
	case d/day%365 == 0:
		return fmt.Sprintf("%dy", d/(365*day))
	default:
		return fmt.Sprintf("%dy%dd", d/(365*day), d/day%365)
	}
}

// amount writes a number of things, whose name has a regular plural: certificates, identities.
func amount[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if stem, ok := strings.CutSuffix(thing, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// short cuts long opaque values in tables; -o json has them in full.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most-1] + "…"
}

// expiry reads the value of an --expires flag: a lifetime from now, a time, or "never".
func (a *app) expiry(flag, value string) (time.Time, error) {
	if value == "never" {
		return time.Time{}, nil
	}
	t, err := a.future(flag, value)
	if err != nil {
		return time.Time{}, UsageError(fmt.Errorf("--%s %q is neither \"never\", nor a duration such as 90d, nor a time such as 2027-01-31T00:00:00Z", flag, value))
	}
	return t, nil
}

// future reads a time, or a duration from now.
func (a *app) future(flag, value string) (time.Time, error) { return a.at(flag, value, 1) }

// past reads a time, or a duration until now.
func (a *app) past(flag, value string) (time.Time, error) { return a.at(flag, value, -1) }

func (a *app) at(flag, value string, sign time.Duration) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if d, err := pki.ParseDuration(value); err == nil {
		return a.Now().Add(sign * time.Duration(d)).UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, UsageError(fmt.Errorf("--%s %q is neither a duration such as 24h or 7d nor a time such as 2027-01-31T00:00:00Z", flag, value))
	}
	return t, nil
}

// collect reads as many items as are wanted, page after page; 0 is all. It tells when there are more.
func collect[T any](a *app, limit int, what string, page func(after string, limit int) (*apiv1.Page[T], error)) ([]T, error) {
	const most = 1000
	if limit < 0 {
		return nil, UsageError(fmt.Errorf("--limit %d is negative; 0 is all", limit))
	}
	items := []T{}
	after := ""
	for {
		size := most
		if limit > 0 {
			size = min(limit-len(items), most)
		}
		got, err := page(after, size)
		if err != nil {
			return nil, err
		}
		items = append(items, got.Items...)
		switch {
		case got.Next == "":
			return items, nil
		case limit > 0 && len(items) >= limit:
			a.note("There may be more %s: the list was cut at %d. --limit N shows more, --limit 0 all.", what, len(items))
			return items, nil
		}
		after = got.Next
	}
}
