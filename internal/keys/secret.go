package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Lengths of secrets.
const (
	keyLen        = 32
	minPassphrase = 12
	maxPassphrase = 1024
	maxSecretFile = 4096
)

// privateMode are the permission bits that a secret's file must not have: anything for group and others.
const privateMode = 0o077

// secretKind is how a key is derived from a secret.
type secretKind string

const (
	fromPassphrase secretKind = "passphrase"
	fromKey        secretKind = "key"
)

// Secret is what the operator keeps outside of the database: a passphrase or a key. It is made by ReadSecret; the
// zero value opens nothing.
type Secret struct {
	kind  secretKind
	bytes []byte
	file  string
}

// String names the file and nothing else, so that a Secret may be printed by accident.
func (s Secret) String() string { return fmt.Sprintf("%s file %s", s.kind, s.file) }

// GoString keeps %#v from printing the secret.
func (s Secret) GoString() string { return s.String() }

// ReadSecret reads the secret that private keys are encrypted under, from exactly one of the two files. A passphrase
// file holds 12 to 1024 bytes in one line; a key file holds 32 random bytes, as they are, in hexadecimal or in base64.
// The file must be a regular one that only its owner may read. Errors name the file and the rule, never the content.
func ReadSecret(passphraseFile, keyFile string) (Secret, error) {
	switch {
	case passphraseFile == "" && keyFile == "":
		return Secret{}, errors.New("neither a passphrase file nor a key file is set; private keys are encrypted under one of them")
	case passphraseFile != "" && keyFile != "":
		return Secret{}, fmt.Errorf("both passphrase file %s and key file %s are set; set one", passphraseFile, keyFile)
	case passphraseFile != "":
		return readPassphrase(passphraseFile)
	default:
		return readKey(keyFile)
	}
}

func readPassphrase(path string) (Secret, error) {
	raw, err := readPrivate("passphrase", path)
	if err != nil {
		return Secret{}, err
	}
	raw = bytes.TrimRight(raw, "\r\n")
	switch {
	case bytes.ContainsAny(raw, "\r\n\x00"):
		return Secret{}, fmt.Errorf("passphrase file %s has more than one line; it must hold the passphrase alone", path)
	case len(raw) < minPassphrase || len(raw) > maxPassphrase:
		return Secret{}, fmt.Errorf("passphrase file %s holds %d bytes; a passphrase has %d to %d", path, len(raw), minPassphrase, maxPassphrase)
	}
	return Secret{kind: fromPassphrase, bytes: raw, file: path}, nil
}

func readKey(path string) (Secret, error) {
	raw, err := readPrivate("key", path)
	if err != nil {
		return Secret{}, err
	}
	key, ok := decodeKey(raw)
	if !ok {
		return Secret{}, fmt.Errorf("key file %s does not hold %d bytes, as they are, in hexadecimal or in base64", path, keyLen)
	}
	if bytes.Count(key, key[:1]) == keyLen {
		return Secret{}, fmt.Errorf("key file %s holds one byte %d times; it must hold %d random bytes", path, keyLen, keyLen)
	}
	return Secret{kind: fromKey, bytes: key, file: path}, nil
}

// decodeKey takes the raw form first: 32 bytes are never a hexadecimal or base64 form of 32 bytes.
func decodeKey(raw []byte) ([]byte, bool) {
	if len(raw) == keyLen {
		return raw, true
	}
	text := string(bytes.TrimSpace(raw))
	decoders := []func(string) ([]byte, error){
		hex.DecodeString,
		base64.StdEncoding.Strict().DecodeString,
		base64.RawStdEncoding.Strict().DecodeString,
		base64.URLEncoding.Strict().DecodeString,
		base64.RawURLEncoding.Strict().DecodeString,
	}
	for _, decode := range decoders {
		if key, err := decode(text); err == nil && len(key) == keyLen {
			return key, true
		}
	}
	return nil, false
}

// readPrivate reads a small file that nobody but its owner may read. The rule is checked on the open file, so that it
// cannot be exchanged in between.
func readPrivate(what, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what, err)
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what, err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s file %s is not a regular file", what, path)
	case mode.Perm()&privateMode != 0:
		return nil, fmt.Errorf("%s file %s has mode %04o, so others than its owner can use it; it must be 0600 or 0400 (chmod 600 %s)",
			what, path, mode.Perm(), path)
	case info.Size() > maxSecretFile:
		return nil, fmt.Errorf("%s file %s has %d bytes, more than %d", what, path, info.Size(), maxSecretFile)
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what, err)
	}
	return raw, nil
}
