package goodkey_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"
	"math/rand/v2"
	"testing"
)

// point makes a key of any coordinates.
func point(curve elliptic.Curve, x, y *big.Int) *ecdsa.PublicKey {
	return &ecdsa.PublicKey{Curve: curve, X: x, Y: y} //nolint:staticcheck // bad points can be made of coordinates only
}

// widePoint is a point of P-384 under the name of P-256.
func widePoint(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	key := newECDSA(t, elliptic.P384())
	return point(elliptic.P256(), key.X, key.Y) //nolint:staticcheck // as above
}

func negated(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	key := newECDSA(t, elliptic.P256())
	return point(elliptic.P256(), key.X, new(big.Int).Neg(key.Y)) //nolint:staticcheck // as above
}

// unreduced is a good point but for the field's prime that was added to its coordinate.
func unreduced(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	key := newECDSA(t, elliptic.P256())
	return point(elliptic.P256(), new(big.Int).Add(key.X, elliptic.P256().Params().P), key.Y) //nolint:staticcheck // as above
}

// numbers returns a source of odd numbers of a size in bits, the same ones each time.
func numbers(seed uint64) func(bits int) *big.Int {
	source := rand.New(rand.NewPCG(seed, seed))
	return func(bits int) *big.Int {
		raw := make([]byte, bits/8+1)
		for i := range raw {
			raw[i] = byte(source.Uint32())
		}
		n := new(big.Int).SetBytes(raw)
		n.SetBit(n, 0, 1)
		for i := n.BitLen() - 1; i >= bits; i-- {
			n.SetBit(n, i, 0)
		}
		return n.SetBit(n, bits-1, 1)
	}
}

// hard returns a number of a size in bits that ends in 1 and has no small factor; whether it is a product of two
// primes costs too much to care for.
func hard(bits int) *big.Int {
	next := numbers(uint64(bits))
	primes := smallPrimes(1000)
	for {
		n := next(bits)
		rest := new(big.Int)
		smooth := false
		for _, prime := range primes {
			smooth = smooth || rest.Mod(n, prime).Sign() == 0
		}
		if !smooth {
			return n
		}
	}
}

// multiple returns a 2048-bit number whose only small factor is prime.
func multiple(prime int64) *big.Int {
	n := hard(2048)
	n.Rsh(n, uint(big.NewInt(prime).BitLen()))
	for rest, primes := new(big.Int), smallPrimes(1000); ; n.Add(n, big.NewInt(1)) {
		smooth := false
		for _, p := range primes {
			smooth = smooth || rest.Mod(n, p).Sign() == 0
		}
		if m := new(big.Int).Mul(n, big.NewInt(prime)); !smooth && m.BitLen() == 2048 {
			return m
		}
		if m := new(big.Int).Mul(n, big.NewInt(prime)); m.BitLen() < 2048 {
			n.Lsh(n, 1)
		}
	}
}

// roca returns a modulus as the faulty library made them: the product of two numbers k·M + (65537^a mod M), where M
// is the product of the first so many primes.
func roca(bits, primes int) *big.Int {
	product := big.NewInt(1)
	for _, prime := range smallPrimes(2000)[:primes] {
		product.Mul(product, prime)
	}
	next := numbers(uint64(bits))
	factor := func() *big.Int {
		for {
			a := new(big.Int).Exp(big.NewInt(65537), next(40), product)
			k := next(bits/2 - product.BitLen() + 1)
			p := k.Mul(k, product)
			p.Add(p, a)
			const topBits = 3 // both set, so that the product has all bits
			if p.BitLen() == bits/2 && new(big.Int).Rsh(p, uint(bits/2-2)).Int64() == topBits {
				return p
			}
		}
	}
	return new(big.Int).Mul(factor(), factor())
}

// product returns the product of two 1024-bit primes that differ by about 2^gap, or not at all for 0.
func product(t testing.TB, gap uint) *big.Int {
	t.Helper()
	p := numbers(3)(1024)
	p.SetBit(p, 1022, 1)
	p = nextPrime(p)
	if gap == 0 {
		return p.Mul(p, p)
	}
	q := new(big.Int).Lsh(big.NewInt(1), gap)
	q = nextPrime(q.Add(q, p))
	n := new(big.Int).Mul(p, q)
	if n.BitLen() != 2048 {
		t.Fatalf("modulus has %d bits", n.BitLen())
	}
	return n
}

func nextPrime(n *big.Int) *big.Int {
	n = new(big.Int).Set(n)
	n.SetBit(n, 0, 1)
	for !n.ProbablyPrime(1) {
		n.Add(n, big.NewInt(2))
	}
	return n
}

func smallPrimes(limit int64) []*big.Int {
	var primes []*big.Int
	for n := int64(2); n < limit; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(1) {
			primes = append(primes, p)
		}
	}
	return primes
}
