package store

import (
	"encoding/json"
	"fmt"
	"time"
)

// Times are stored as integers, 0 for the zero time. Certificates, orders and what belongs to them have seconds, as
// their protocols do; all else has microseconds. This is the one place that truncates.

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// secondsUp rounds up, to compare stored whole seconds with a moment: they lie before it if they are less than this.
func secondsUp(t time.Time) int64 {
	n := t.Unix()
	if t.Nanosecond() > 0 {
		n++
	}
	return n
}

func fromSeconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// span is the step of the indexes on dates, see the migrations.
func span(t time.Time) int64 { return t.Unix() >> 10 }

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob makes nil an empty value: columns are never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// unblob makes an empty value nil again.
func unblob(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func encode(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %T: %w", v, err)
	}
	return string(raw), nil
}

// encodeOptional writes "" for nil.
func encodeOptional[T any](v *T) (string, error) {
	if v == nil {
		return "", nil
	}
	return encode(v)
}

func decode(column, raw string, v any) error {
	if err := json.Unmarshal([]byte(raw), v); err != nil {
		return fmt.Errorf("stored %s is not what we wrote: %w", column, err)
	}
	return nil
}

func decodeOptional[T any](column, raw string) (*T, error) {
	if raw == "" {
		return nil, nil //nolint:nilnil // absent is a value here
	}
	v := new(T)
	if err := decode(column, raw, v); err != nil {
		return nil, err
	}
	return v, nil
}

// array copies a stored hash; a value of another length leaves the rest zero and so matches nothing.
func array(b []byte) (a [32]byte) {
	copy(a[:], b)
	return a
}
