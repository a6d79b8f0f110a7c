package pki_test

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

var now = time.Date(2026, time.October, 7, 12, 0, 0, 0, time.UTC)

func TestNewSerial(t *testing.T) {
	t.Parallel()
	last := pki.Serial("")
	for at := now; at.Year() < 2100; at = at.AddDate(1, 0, 0) {
		serial, err := pki.NewSerial(at, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := asn1.Marshal(serial.Int())
		if err != nil {
			t.Fatal(err)
		}
		if len(encoded) != 2+pki.SerialLen || serial.Int().Sign() <= 0 {
			t.Errorf("serial %s has %d octets", serial, len(encoded)-2)
		}
		if serial <= last {
			t.Errorf("serial %s of %s is not after %s", serial, at, last)
		}
		last = serial
		if parsed, err := pki.ParseSerial(string(serial)); err != nil || parsed != serial || pki.SerialFromInt(serial.Int()) != serial {
			t.Errorf("serial %s is read as %s, %v", serial, parsed, err)
		}
	}
}

// The same second must not mean the same serial: 128 bits are random.
func TestNewSerialRandomness(t *testing.T) {
	t.Parallel()
	ones := bytes.Repeat([]byte{0xff}, 16)
	serial, err := pki.NewSerial(time.Unix(4, 0), bytes.NewReader(ones))
	if err != nil || serial != "02"+pki.Serial(strings.Repeat("ff", 16)) {
		t.Errorf("serial %s, %v", serial, err)
	}
	broken := errors.New("no randomness")
	if serial, err := pki.NewSerial(now, iotest.ErrReader(broken)); !errors.Is(err, broken) || serial != "" {
		t.Errorf("without randomness: %q, %v", serial, err)
	}
	if _, err := pki.NewSerial(now, bytes.NewReader(ones[1:])); err == nil {
		t.Error("made a serial of 15 random bytes")
	}
}

func TestSerialFromInt(t *testing.T) {
	t.Parallel()
	for want, n := range map[pki.Serial]*big.Int{"01": big.NewInt(1), "80": big.NewInt(128), "0100": big.NewInt(256)} {
		if got := pki.SerialFromInt(n); got != want {
			t.Errorf("SerialFromInt(%v) = %q, want %q", n, got, want)
		}
	}
	for _, n := range []*big.Int{nil, big.NewInt(0), big.NewInt(-1)} {
		if got := pki.SerialFromInt(n); got != "" {
			t.Errorf("SerialFromInt(%v) = %q", n, got)
		}
	}
}

func TestParseSerial(t *testing.T) {
	t.Parallel()
	tests := map[string]pki.Serial{
		"0a1b": "0a1b", "0A1B": "0a1b", "a1b": "0a1b", "0x0A1B": "0a1b", "0X0A1B": "0a1b", "0a:1b": "0a1b", " 0a 1b\n": "0a1b",
		"00:0a:1b": "0a1b", "1": "01", "0000000000000000000000000000000000000000000000000001": "01",
		strings.Repeat("ff", 20): pki.Serial(strings.Repeat("ff", 20)),
	}
	for text, want := range tests {
		if got, err := pki.ParseSerial(text); err != nil || got != want {
			t.Errorf("ParseSerial(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "00", "0x", "x", "-1", "0a1g", "1_0", "a\x00b", strings.Repeat("f", 41), strings.Repeat("1", 1<<20), "10.5", "\u212a"} {
		serial, err := pki.ParseSerial(text)
		if err == nil {
			t.Errorf("accepted %.60q as %q", text, serial)
			continue
		}
		checkSentence(t, err, "hexadecimal")
	}
}

func TestSerialOfNoConstructor(t *testing.T) {
	t.Parallel()
	for _, serial := range []pki.Serial{"", "0", "xy"} {
		if serial.Int() != nil || serial.Bytes() != nil {
			t.Errorf("%q is the number %v, the bytes %x", serial, serial.Int(), serial.Bytes())
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[pki.OrderID]bool{}
	last := pki.OrderID("")
	for i := range 1000 {
		id, err := pki.NewID[pki.OrderID](now.Add(time.Duration(i)*time.Millisecond), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !pki.ValidID(string(id)) || seen[id] || id <= last {
			t.Fatalf("identifier %q after %q", id, last)
		}
		seen[id], last = true, id
		packed, ok := pki.PackID(string(id))
		if !ok || len(packed) != 22 || pki.UnpackID(packed) != string(id) {
			t.Fatalf("%q is packed as %x, %t", id, packed, ok)
		}
	}
	broken := errors.New("no randomness")
	if id, err := pki.NewID[pki.OrderID](now, iotest.ErrReader(broken)); !errors.Is(err, broken) || id != "" {
		t.Errorf("without randomness: %q, %v", id, err)
	}
}

func TestValidIDRefuses(t *testing.T) {
	t.Parallel()
	good, err := pki.NewID[pki.OrderID](now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := string(good)
	for name, text := range map[string]string{
		"empty": "", "short": id[1:], "long": id + "0", "upper-case": strings.ToUpper(id), "letter-w": id[:35] + "w",
		"padding": id[:34] + "==", "newlines": id[:34] + "\n\n", "four-newlines": "\r\n\r\n" + id[:32], "trailing-bits": id[:35] + "v",
		"slash": "/" + id[1:], "nul": id[:35] + "\x00",
	} {
		if pki.ValidID(text) {
			t.Errorf("%s: %q is valid", name, text)
		}
		if _, ok := pki.PackID(text); ok {
			t.Errorf("%s: %q is packed", name, text)
		}
	}
}
