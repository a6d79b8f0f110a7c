package pki_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/certloom/certloom/internal/pki"
)

// The example of RFC 9773 section 4.1: serial 00:87:65:43:21 keeps its leading zero.
const ariExample = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"

func TestARICertID(t *testing.T) {
	t.Parallel()
	aki, err := hex.DecodeString("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
	if err != nil {
		t.Fatal(err)
	}
	if got := pki.ARICertID(aki, "87654321"); got != ariExample {
		t.Errorf("ARICertID = %q, want %q", got, ariExample)
	}
	gotAKI, serial, err := pki.ParseARICertID(ariExample)
	if err != nil || !bytes.Equal(gotAKI, aki) || serial != "87654321" {
		t.Errorf("ParseARICertID(%q) = %x, %q, %v", ariExample, gotAKI, serial, err)
	}
}

func TestParseARICertID(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"refuses/empty":              "",
		"refuses/one-part":           "aYhba4dGQEHhs3uEe6CuLN4ByNQ",
		"refuses/three-parts":        ariExample + ".AA",
		"refuses/padding":            "aYhba4dGQEHhs3uEe6CuLN4ByNQ=.AIdlQyE",
		"refuses/padded-serial":      "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE=",
		"refuses/no-aki":             ".AIdlQyE",
		"refuses/no-serial":          "aYhba4dGQEHhs3uEe6CuLN4ByNQ.",
		"refuses/zero-serial":        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AA",
		"refuses/negative-serial":    "aYhba4dGQEHhs3uEe6CuLN4ByNQ.h2VDIQ",
		"refuses/superfluous-zero":   "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AAE",
		"refuses/two-zeros":          "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AACHZQ",
		"refuses/stray-bits":         "aYhba4dGQEHhs3uEe6CuLN4ByNR.AIdlQyE",
		"refuses/newline":            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE\n",
		"refuses/standard-alphabet":  "aYhba4dGQEHhs3uEe6CuLN4ByN+.AIdlQyE",
		"refuses/serial-of-21-bytes": "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AQIDBAUGBwgJCgsMDQ4PEBESExQV",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if aki, serial, err := pki.ParseARICertID(value); err == nil {
				t.Errorf("ParseARICertID(%q) = %x, %q, want an error", value, aki, serial)
			}
		})
	}
}

func FuzzParseARICertID(f *testing.F) {
	f.Add(ariExample)
	f.Add("AA.AQ")
	f.Fuzz(func(t *testing.T, s string) {
		aki, serial, err := pki.ParseARICertID(s)
		if err != nil {
			return
		}
		if again := pki.ARICertID(aki, serial); again != s {
			t.Errorf("%q was read as %q", s, again)
		}
	})
}
