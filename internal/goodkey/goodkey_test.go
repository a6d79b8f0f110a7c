package goodkey_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/goodkey"
)

func TestTakesGoodKeys(t *testing.T) {
	t.Parallel()
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]crypto.PublicKey{
		"p256":     newECDSA(t, elliptic.P256()),
		"p384":     newECDSA(t, elliptic.P384()),
		"ed25519":  edwards,
		"rsa-2048": newRSA(t, 2048),
		"rsa-2056": newRSA(t, 2056),
		"rsa-3072": newRSA(t, 3072),
		"rsa-4096": &rsa.PublicKey{N: hard(4096), E: 65537},
	}
	for name, key := range tests {
		if err := goodkey.CheckPublicKey(key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Most keys are good: none of many must be taken for a bad one.
func TestTakesManyModuli(t *testing.T) {
	t.Parallel()
	next := numbers(1)
	taken := 0
	for range 2000 {
		n := next(2048)
		switch err := goodkey.CheckPublicKey(&rsa.PublicKey{N: n, E: 65537}); {
		case err == nil:
			taken++
		case !strings.Contains(err.Error(), "divisible"):
			t.Fatalf("random odd modulus %x: %v", n, err)
		}
	}
	// Of odd numbers, those without a factor up to 751 are 2·e^-γ/ln(751), which is 17 percent.
	if taken < 200 || taken > 500 {
		t.Errorf("%d of 2000 random odd moduli are taken, want about 340", taken)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	private := newPrivate(t)
	modulus := func(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }
	power := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: hard(2048), E: e} }
	tests := map[string]struct {
		key  crypto.PublicKey
		says string
	}{
		"nil":                    {nil, "type"},
		"hmac-key":               {[]byte("0123456789abcdef0123456789abcdef"), "type"},
		"private-key":            {private, "type"},
		"rsa-by-value":           {*modulus(hard(2048)), "type"},
		"ecdsa/nil":              {(*ecdsa.PublicKey)(nil), "no curve"},
		"ecdsa/no-curve":         {&ecdsa.PublicKey{}, "no curve"},
		"ecdsa/p224":             {newECDSA(t, elliptic.P224()), "P-224"},
		"ecdsa/p521":             {newECDSA(t, elliptic.P521()), "P-521"},
		"ecdsa/foreign-curve":    {point(foreign{}, big.NewInt(1), big.NewInt(1)), "curve"},
		"ecdsa/not-on-curve":     {point(elliptic.P256(), big.NewInt(1), big.NewInt(1)), "not on its curve"},
		"ecdsa/p384-as-p256":     {widePoint(t), "not on its curve"},
		"ecdsa/infinity":         {point(elliptic.P256(), new(big.Int), new(big.Int)), "not on its curve"},
		"ecdsa/no-coordinates":   {&ecdsa.PublicKey{Curve: elliptic.P256()}, "no point"},
		"ecdsa/negative":         {negated(t), "not on its curve"},
		"ecdsa/not-reduced":      {unreduced(t), "not on its curve"},
		"ed25519/nil":            {ed25519.PublicKey(nil), "0 octets"},
		"ed25519/short":          {ed25519.PublicKey(make([]byte, 31)), "31 octets"},
		"ed25519/long":           {ed25519.PublicKey(make([]byte, 33)), "33 octets"},
		"ed25519/zero":           {ed25519.PublicKey(make([]byte, 32)), "small order"},
		"ed25519/not-canonical":  {edwards("efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "canonical"},
		"ed25519/prime":          {edwards("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "canonical"},
		"ed25519/sign-and-prime": {edwards("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"), "canonical"},
		"rsa/nil":                {(*rsa.PublicKey)(nil), "no positive modulus"},
		"rsa/no-modulus":         {&rsa.PublicKey{E: 65537}, "no positive modulus"},
		"rsa/zero":               {modulus(new(big.Int)), "no positive modulus"},
		"rsa/negative":           {modulus(new(big.Int).Neg(hard(2048))), "no positive modulus"},
		"rsa/1024":               {modulus(hard(1024)), "1024 bits"},
		"rsa/1025":               {modulus(hard(1025)), "1025 bits"},
		"rsa/2047":               {modulus(hard(2047)), "2047 bits"},
		"rsa/2049":               {modulus(hard(2049)), "whole number of octets"},
		"rsa/4097":               {modulus(hard(4097)), "4097 bits"},
		"rsa/8192":               {modulus(hard(8192)), "8192 bits"},
		"rsa/16384":              {modulus(hard(16384)), "16384 bits"},
		"rsa/1-mbit":             {modulus(hard(1 << 20)), "1048576 bits"},
		"rsa/exponent-0":         {power(0), "exponent is 0"},
		"rsa/exponent-1":         {power(1), "exponent is 1"},
		"rsa/exponent-2":         {power(2), "exponent is 2"},
		"rsa/exponent-3":         {power(3), "exponent is 3"},
		"rsa/exponent-even":      {power(65536), "exponent is 65536"},
		"rsa/exponent-large":     {power(1<<31 + 1), "exponent is 2147483649"},
		"rsa/exponent-negative":  {power(-65537), "exponent is -65537"},
		"rsa/even":               {modulus(new(big.Int).Sub(hard(2048), big.NewInt(1))), "even"},
		"rsa/roca-2048":          {modulus(roca(2048, 126)), "ROCA"},
		"rsa/roca-3072":          {modulus(roca(3072, 126)), "ROCA"},
		"rsa/roca-4096":          {modulus(roca(4096, 225)), "ROCA"},
		"rsa/square":             {modulus(product(t, 0)), "too close"},
		"rsa/twins":              {modulus(product(t, 2)), "too close"},
		"rsa/gap-2^500":          {modulus(product(t, 500)), "too close"},
		"rsa/gap-2^516":          {modulus(product(t, 516)), "too close"},
	}
	for _, prime := range []int64{3, 5, 7, 47, 53, 97, 499, 701, 751} {
		tests[fmt.Sprintf("rsa/factor-%d", prime)] = struct {
			key  crypto.PublicKey
			says string
		}{modulus(multiple(prime)), fmt.Sprintf("divisible by %d", prime)}
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			err := goodkey.CheckPublicKey(test.key)
			if err == nil {
				t.Fatal("key is taken")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("sentence %q does not contain %q", err, test.says)
			}
			if len(err.Error()) > 120 {
				t.Errorf("sentence has %d bytes", len(err.Error()))
			}
		})
	}
}

// Primes that are far enough apart must pass: each key that crypto/rsa makes has such.
func TestTakesPrimesFarApart(t *testing.T) {
	t.Parallel()
	if err := goodkey.CheckPublicKey(&rsa.PublicKey{N: product(t, 540), E: 65537}); err != nil {
		t.Error(err)
	}
}

// With a key of small order, a signature that nobody made is good for one message in eight at least. That this
// works shows that the points are what they are said to be.
func TestRefusesEd25519SmallOrder(t *testing.T) {
	t.Parallel()
	forgery := append([]byte{1}, make([]byte, 63)...) // R is the neutral element, S is zero
	for _, encoded := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	} {
		key := edwards(encoded)
		forged := false
		for i := byte(0); i < 200 && !forged; i++ {
			forged = ed25519.Verify(key, []byte{i}, forgery)
		}
		if !forged {
			t.Errorf("%s is not of small order", encoded)
		}
		if err := goodkey.CheckPublicKey(key); err == nil || !strings.Contains(err.Error(), "small order") {
			t.Errorf("%s: error %v, want small order", encoded, err)
		}
	}
}

// BenchmarkCheckPublicKey is to be little beside a verification, which takes 70 µs for P-256 and 100 µs for RSA 4096.
func BenchmarkCheckPublicKey(b *testing.B) {
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	keys := []struct {
		name string
		key  crypto.PublicKey
	}{
		{"P-256", newECDSA(b, elliptic.P256())},
		{"P-384", newECDSA(b, elliptic.P384())},
		{"Ed25519", edwards},
		{"RSA-2048", newRSA(b, 2048)},
		{"RSA-4096", &rsa.PublicKey{N: hard(4096), E: 65537}},
	}
	for _, test := range keys {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := goodkey.CheckPublicKey(test.key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func newECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

func newPrivate(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t testing.TB, bits int) *rsa.PublicKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

func edwards(encoded string) ed25519.PublicKey {
	raw, err := hex.DecodeString(encoded)
	if err != nil {
		panic(err)
	}
	return raw
}

// foreign is a curve that is not the library's.
type foreign struct{ elliptic.Curve }

func (foreign) Params() *elliptic.CurveParams { panic("asked for parameters") }
