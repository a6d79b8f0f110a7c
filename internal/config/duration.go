package config

import (
	"github.com/certloom/certloom/internal/pki"
)

// Duration is a positive time that is written like "90m", "24h" or "30d".
type Duration pki.Duration

// UnmarshalText reads the written form.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := pki.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

// String writes it as it is read.
func (d Duration) String() string { return pki.Duration(d).String() }
