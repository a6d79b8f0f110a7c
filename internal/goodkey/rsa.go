package goodkey

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
)

// Bounds on RSA keys. A verification with 4096 bits takes some 100 µs; with 16384 it would take ten times that for
// whoever wants us busy.
const (
	minModulus = 2048
	maxModulus = 4096
	exponent   = 65537
)

// fermatRounds is how many steps of Fermat's factorization are tried, as many as Boulder's default suggests: the
// incident keys (CVE-2022-26320) fell within a few.
const fermatRounds = 100

func checkRSA(key *rsa.PublicKey) error {
	if key == nil || key.N == nil || key.N.Sign() <= 0 {
		return errors.New("RSA key has no positive modulus")
	}
	switch size := key.N.BitLen(); {
	case size < minModulus || size > maxModulus:
		return fmt.Errorf("RSA modulus has %d bits, not %d to %d", size, minModulus, maxModulus)
	case size%8 != 0:
		return fmt.Errorf("RSA modulus has %d bits, which is not a whole number of octets", size)
	case key.E != exponent:
		return fmt.Errorf("RSA public exponent is %d, not %d", key.E, exponent)
	case key.N.Bit(0) == 0:
		return errors.New("RSA modulus is even")
	}
	if err := checkResidues(key.N); err != nil {
		return err
	}
	if closePrimes(key.N, fermatRounds) {
		return errors.New("RSA modulus is the product of two primes that are too close to each other")
	}
	return nil
}

// lastMarked is the greatest prime of those that ROCA keys of 2048 bits bear the mark of.
const lastMarked = 701

// checkResidues looks at the modulus's remainder by each small prime. It refuses a modulus that one of them divides,
// and the mark of ROCA (CVE-2017-15361): the faulty library chose primes that are powers of 65537 modulo the product of
// the primes up to 701 for keys of 2048 bits, up to 1427 from 3968 bits on, so that the modulus is a power of
// 65537 modulo each of these primes. Any other modulus passes for one with a probability below 2^-100.
func checkResidues(n *big.Int) error {
	marked := true
	primes := oddPrimes()
	for len(primes) > 0 {
		product, count := uint64(1), 0
		for ; count < len(primes); count++ {
			high, low := bits.Mul64(product, uint64(primes[count]))
			if high != 0 {
				break
			}
			product = low
		}
		rest := remainder(n, product)
		for _, prime := range primes[:count] {
			residue := uint32(rest % uint64(prime))
			if residue == 0 {
				return fmt.Errorf("RSA modulus is divisible by %d", prime)
			}
			marked = marked && (prime > lastMarked || powerOfExponent(residue, uint32(prime)))
		}
		primes = primes[count:]
	}
	if marked {
		return errors.New("RSA modulus was made by a faulty library (ROCA, CVE-2017-15361)")
	}
	return nil
}

// remainder returns n modulo m, with one division for each word of n.
func remainder(n *big.Int, m uint64) uint64 {
	var rest uint64
	words := n.Bits()
	for i := len(words) - 1; i >= 0; i-- {
		if bits.UintSize == 64 {
			_, rest = bits.Div64(rest, uint64(words[i]), m)
		} else {
			_, rest = bits.Div64(rest>>32, rest<<32|uint64(words[i]), m)
		}
	}
	return rest
}

// powerOfExponent reports whether residue is 65537 to some power modulo prime.
func powerOfExponent(residue, prime uint32) bool {
	generator := exponent % prime
	for power := generator; ; power = power * generator % prime {
		if power == residue {
			return true
		}
		if power == 1 {
			return false
		}
	}
}

// closePrimes tries to write n as a square less a square, beginning at its root, which finds the primes at once if
// they are close together (Fermat's method).
func closePrimes(n *big.Int, rounds int) bool {
	root := new(big.Int).Sqrt(n)
	square := new(big.Int).Mul(root, root)
	rest := new(big.Int).Sub(square, n) // root² - n
	step := new(big.Int).Lsh(root, 1)
	step.Add(step, big.NewInt(1)) // (root+1)² - root²
	two := big.NewInt(2)
	if rest.Sign() == 0 {
		return true
	}
	trial := new(big.Int)
	for range rounds {
		rest.Add(rest, step)
		step.Add(step, two)
		if maybeSquare(rest) {
			trial.Sqrt(rest)
			if trial.Mul(trial, trial).Cmp(rest) == 0 {
				return true
			}
		}
	}
	return false
}

// maybeSquare is false for most numbers that are no squares, at the price of a division: a square's remainders
// are squares too.
func maybeSquare(n *big.Int) bool {
	const lowBits = 1<<0 | 1<<1 | 1<<4 | 1<<9 | 1<<16 | 1<<17 | 1<<25 | 1<<33 | 1<<36 | 1<<41 | 1<<49 | 1<<57
	words := n.Bits()
	if len(words) == 0 {
		return true
	}
	if lowBits>>(uint(words[0])&63)&1 == 0 {
		return false
	}
	const product = 63 * 65 * 11 * 17 * 19 * 23 * 31
	rest := remainder(n, product)
	for _, modulus := range [...]uint64{63, 65, 11, 17, 19, 23, 31} {
		if !squareModulo(rest%modulus, modulus) {
			return false
		}
	}
	return true
}

func squareModulo(residue, modulus uint64) bool {
	for x := range modulus/2 + 1 {
		if x*x%modulus == residue {
			return true
		}
	}
	return false
}

// oddPrimes returns the primes from 3 to 751: those that ROCA needs for 2048 bits, and as many as Boulder tries as
// factors.
func oddPrimes() []uint16 {
	return []uint16{
		3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
		113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233,
		239, 241, 251, 257, 263, 269, 271, 277, 281, 283, 293, 307, 311, 313, 317, 331, 337, 347, 349, 353, 359, 367,
		373, 379, 383, 389, 397, 401, 409, 419, 421, 431, 433, 439, 443, 449, 457, 461, 463, 467, 479, 487, 491, 499,
		503, 509, 521, 523, 541, 547, 557, 563, 569, 571, 577, 587, 593, 599, 601, 607, 613, 617, 619, 631, 641, 643,
		647, 653, 659, 661, 673, 677, 683, 691, 701, 709, 719, 727, 733, 739, 743, 751,
	}
}
