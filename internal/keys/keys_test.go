package keys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/pki"
)

const passphrase = "correct horse battery staple"

func rawKey() []byte { return []byte("0123456789abcdef\x00\x01\x02\x03456789abcdef") }

// write makes a file of the given mode; umask does not count.
func write(t testing.TB, content []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func keySecret(t testing.TB, key []byte) keys.Secret {
	t.Helper()
	secret, err := keys.ReadSecret("", write(t, key, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func passphraseSecret(t testing.TB, text string) keys.Secret {
	t.Helper()
	secret, err := keys.ReadSecret(write(t, []byte(text), 0o400), "")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func newVault(t testing.TB) *keys.Vault {
	t.Helper()
	vault, _, err := keys.Create(keySecret(t, rawKey()), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return vault
}

func TestReadSecretForms(t *testing.T) {
	t.Parallel()
	_, header, err := keys.Create(keySecret(t, rawKey()), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]string{
		"raw":              string(rawKey()),
		"hex":              hex.EncodeToString(rawKey()) + "\n",
		"HEX":              strings.ToUpper(hex.EncodeToString(rawKey())),
		"base64":           base64.StdEncoding.EncodeToString(rawKey()) + "\n",
		"base64 unpadded":  base64.RawStdEncoding.EncodeToString(rawKey()),
		"base64url":        base64.URLEncoding.EncodeToString(rawKey()),
		"base64url no pad": base64.RawURLEncoding.EncodeToString(rawKey()) + "\r\n",
	} {
		if _, err := keys.Open(keySecret(t, []byte(form)), header); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadSecretRefuses(t *testing.T) {
	t.Parallel()
	const canary = "canary-canary-canary"
	dir := t.TempDir()
	for name, test := range map[string]struct {
		passphraseFile, keyFile, says string
	}{
		"refuses/neither":              {"", "", "neither"},
		"refuses/both":                 {"a", "b", "both passphrase file a and key file b"},
		"refuses/missing-passphrase":   {filepath.Join(dir, "none"), "", filepath.Join(dir, "none")},
		"refuses/missing-key":          {"", filepath.Join(dir, "none"), filepath.Join(dir, "none")},
		"refuses/folder":               {dir, "", "not a regular file"},
		"refuses/group-readable":       {write(t, []byte(canary), 0o640), "", "mode 0640"},
		"refuses/world-readable":       {write(t, []byte(canary), 0o604), "", "mode 0604"},
		"refuses/world-readable-key":   {"", write(t, rawKey(), 0o644), "chmod 600"},
		"refuses/short-passphrase":     {write(t, []byte("short\n"), 0o600), "", "5 bytes"},
		"refuses/empty-passphrase":     {write(t, nil, 0o600), "", "0 bytes"},
		"refuses/two-lines":            {write(t, []byte(canary+"\nsecond"), 0o600), "", "more than one line"},
		"refuses/nul":                  {write(t, []byte(canary+"\x00"), 0o600), "", "more than one line"},
		"refuses/long-passphrase":      {write(t, bytes.Repeat([]byte("x"), 1025), 0o600), "", "1025 bytes"},
		"refuses/huge-file":            {write(t, bytes.Repeat([]byte("x"), 5000), 0o600), "", "5000 bytes"},
		"refuses/short-key":            {"", write(t, rawKey()[:31], 0o600), "32 bytes"},
		"refuses/long-key":             {"", write(t, append(rawKey(), 1), 0o600), "32 bytes"},
		"refuses/short-key-in-hex":     {"", write(t, []byte(hex.EncodeToString(rawKey()[:16])+"0"), 0o600), "32 bytes"},
		"refuses/zeros":                {"", write(t, make([]byte, 32), 0o600), "random"},
		"refuses/passphrase-in-a-key":  {"", write(t, []byte(canary), 0o600), "32 bytes"},
		"refuses/empty-key":            {"", write(t, nil, 0o600), "32 bytes"},
		"refuses/base64-with-garbage":  {"", write(t, []byte(base64.StdEncoding.EncodeToString(rawKey())+"!"), 0o600), "32 bytes"},
		"refuses/hex-with-inner-space": {"", write(t, []byte(hex.EncodeToString(rawKey()[:16])+" "+hex.EncodeToString(rawKey()[16:])), 0o600), "32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := keys.ReadSecret(test.passphraseFile, test.keyFile)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), test.passphraseFile+test.keyFile) && test.keyFile == "" {
				t.Fatalf("ReadSecret: %v, want a sentence with %q and the file", err, test.says)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	t.Parallel()
	secret := passphraseSecret(t, passphrase)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, secret); strings.Contains(text, "horse") || strings.Contains(text, "99, 111") {
			t.Errorf("%s prints %s", format, text)
		}
	}
}

func TestVault(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]keys.Secret{"key": keySecret(t, rawKey()), "passphrase": passphraseSecret(t, passphrase+"\n")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vault, header, err := keys.Create(secret, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := vault.Seal("hmac", "kid-1", []byte("the secret"))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(sealed, []byte("secret")) || bytes.Contains(header, []byte("horse")) {
				t.Error("something is in the clear")
			}
			opened, err := keys.Open(secret, header)
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := opened.Unseal("hmac", "kid-1", sealed); err != nil || string(plain) != "the secret" {
				t.Errorf("Unseal = %q, %v", plain, err)
			}
			if again, err := vault.Seal("hmac", "kid-1", []byte("the secret")); err != nil || bytes.Equal(again, sealed) {
				t.Errorf("two seals are equal, %v", err)
			}
			_, otherHeader, err := keys.Create(secret, rand.Reader)
			if err != nil || bytes.Equal(otherHeader, header) {
				t.Errorf("two vaults have one header, %v", err)
			}
			other, err := keys.Open(secret, otherHeader)
			if err != nil {
				t.Fatal(err)
			}
			for what, test := range map[string]struct {
				vault       *keys.Vault
				purpose, id string
				sealed      []byte
			}{
				"other vault":   {other, "hmac", "kid-1", sealed},
				"other purpose": {opened, "ca-key", "kid-1", sealed},
				"other id":      {opened, "hmac", "kid-2", sealed},
				"moved border":  {opened, "hmack", "id-1", sealed},
				"cut":           {opened, "hmac", "kid-1", sealed[:len(sealed)-1]},
				"flipped":       {opened, "hmac", "kid-1", flip(sealed, len(sealed)/2)},
				"version":       {opened, "hmac", "kid-1", flip(sealed, 0)},
				"empty":         {opened, "hmac", "kid-1", nil},
				"no purpose":    {opened, "", "kid-1", sealed},
			} {
				if plain, err := test.vault.Unseal(test.purpose, test.id, test.sealed); err == nil {
					t.Errorf("%s: Unseal = %q", what, plain)
				}
			}
		})
	}
}

func flip(data []byte, i int) []byte {
	flipped := bytes.Clone(data)
	flipped[i] ^= 1
	return flipped
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	secret := keySecret(t, rawKey())
	_, header, err := keys.Create(secret, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, phraseHeader, err := keys.Create(passphraseSecret(t, passphrase), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrongKey := write(t, flip(rawKey(), 3), 0o600)
	wrong, err := keys.ReadSecret("", wrongKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Open(wrong, header); err == nil || !strings.Contains(err.Error(), wrongKey) {
		t.Errorf("Open with another key: %v, want a sentence with %s", err, wrongKey)
	}
	if _, err := keys.Open(passphraseSecret(t, passphrase+"r"), phraseHeader); err == nil || strings.Contains(err.Error(), "horse") {
		t.Errorf("Open with another passphrase: %v", err)
	}
	if _, err := keys.Open(secret, phraseHeader); err == nil || !strings.Contains(err.Error(), "encrypted under a passphrase") {
		t.Errorf("Open with a key instead of a passphrase: %v", err)
	}
	change := func(header []byte, field string, value any) []byte {
		var fields map[string]any
		if err := json.Unmarshal(header, &fields); err != nil {
			t.Fatal(err)
		}
		fields[field] = value
		changed, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	for name, bad := range map[string][]byte{
		"refuses/empty":    nil,
		"refuses/not-json": []byte("vault"),
		"refuses/huge":     bytes.Repeat([]byte(" "), 5000),
		"refuses/version":  change(header, "version", 2),
		"refuses/kind":     change(header, "kind", "pin"),
		"refuses/salt":     change(header, "salt", []byte("short")),
		"refuses/check":    change(header, "check", []byte("wrong")),
		"refuses/memory":   change(phraseHeader, "memory", 1<<30),
		"refuses/no-time":  change(phraseHeader, "time", 0),
		"refuses/threads":  change(phraseHeader, "threads", 0),
	} {
		if _, err := keys.Open(secret, bad); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, _, err := keys.Create(keys.Secret{}, rand.Reader); err == nil {
		t.Error("a vault without a secret was made")
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	vault := newVault(t)
	now := time.Date(2026, time.March, 10, 12, 0, 0, 0, time.UTC)
	for _, alg := range keys.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			signer, sealed, err := vault.Generate(alg, "key-1", now)
			if err != nil {
				t.Fatal(err)
			}
			if sealed.ID != "key-1" || sealed.Algorithm != alg || !sealed.CreatedAt.Equal(now) {
				t.Errorf("sealed key = %+v", sealed)
			}
			opened, err := vault.Signer(sealed)
			if err != nil {
				t.Fatal(err)
			}
			if public, ok := opened.Public().(interface{ Equal(x crypto.PublicKey) bool }); !ok || !public.Equal(signer.Public()) {
				t.Error("the key that was opened is another one")
			}
			says, ok := opened.(interface{ Dependable() bool })
			if rsa := alg == pki.RSA3072 || alg == pki.RSA4096; !ok || says.Dependable() == rsa {
				t.Errorf("signatures need a check: %t", rsa)
			}
			for _, s := range []crypto.Signer{signer, opened} {
				if _, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, s); err != nil {
					t.Errorf("sign: %v", err)
				}
				if _, err := x509.MarshalPKCS8PrivateKey(s); err == nil {
					t.Error("the signer gives its key away")
				}
				if text := fmt.Sprintf("%T", s); strings.Contains(text, "PrivateKey") {
					t.Errorf("the signer is a %s", text)
				}
			}
			moved := *sealed
			moved.ID = "key-2"
			if _, err := vault.Signer(&moved); err == nil {
				t.Error("a key under another name was opened")
			}
			renamed := *sealed
			renamed.Algorithm = "other"
			if _, err := vault.Signer(&renamed); err == nil {
				t.Error("a key of another algorithm was opened")
			}
		})
	}
	for _, alg := range []pki.KeyAlgorithm{pki.RSA2048, "", "dsa"} {
		if _, _, err := vault.Generate(alg, "key-1", now); err == nil {
			t.Errorf("a key of algorithm %q was made", alg)
		}
	}
}

func TestSigners(t *testing.T) {
	t.Parallel()
	vault := newVault(t)
	_, sealed, err := vault.Generate(pki.ECDSAP256, "key-1", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	errStorage := errors.New("storage failed")
	var loads atomic.Int32
	var broken atomic.Bool
	broken.Store(true)
	signers, err := keys.New(keys.Config{Vault: vault, Load: func(_ context.Context, id pki.KeyID) (*pki.SealedKey, error) {
		loads.Add(1)
		if broken.Load() || id != sealed.ID {
			return nil, errStorage
		}
		return sealed, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signers.Signer(t.Context(), "key-1"); !errors.Is(err, errStorage) {
		t.Errorf("Signer while storage fails: %v", err)
	}
	broken.Store(false)
	first, err := signers.Signer(t.Context(), "key-1")
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if again, err := signers.Signer(t.Context(), "key-1"); err != nil || again != first {
				t.Errorf("Signer again = %v, %v", again, err)
			}
		})
	}
	group.Wait()
	if n := loads.Load(); n != 2 {
		t.Errorf("loaded %d times, want 2", n)
	}
	if _, err := keys.New(keys.Config{}); err == nil {
		t.Error("a Signers without a vault was made")
	}
}

func FuzzOpen(f *testing.F) {
	secret := keySecret(f, rawKey())
	_, header, err := keys.Create(secret, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(header)
	f.Add([]byte(`{"version":1,"kind":"key","salt":"AAAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Fuzz(func(t *testing.T, header []byte) {
		if vault, err := keys.Open(secret, header); err == nil {
			if _, err := vault.Seal("x", "y", nil); err != nil {
				t.Error(err)
			}
		}
	})
}
