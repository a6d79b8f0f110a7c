package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/certloom/certloom/internal/fault"
)

// Cost of a password hash: the second of the configurations that OWASP's password storage cheat sheet gives for
// argon2id. 19 MiB keeps two logins at once well within the memory that the server is meant to use.
const (
	hashMemory = 19 * 1024 // KiB
	hashTime   = 2
	hashLanes  = 1
	saltLen    = 16
	hashLen    = 32
)

// Bounds of passwords. The upper one bounds the work of hashing.
const (
	minPassword = 12
	maxPassword = 1024
)

// HashPassword returns the PHC string of a password's argon2id hash. A password that is too short or too long is
// Malformed.
func HashPassword(password string, random io.Reader) (string, error) {
	if n := utf8.RuneCountInString(password); n < minPassword || len(password) > maxPassword {
		// The length alone would tell little, but a password has no place in a message.
		return "", fault.New(fault.Malformed, "password has fewer than %d characters or more than %d bytes", minPassword, maxPassword).
			WithField("/password")
	}
	salt := make([]byte, saltLen)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	hash := argon2.IDKey([]byte(password), salt, hashTime, hashMemory, hashLanes, hashLen)
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashLanes, encode(salt), encode(hash)), nil
}

// decoy is compared with when there is no such user, so that the answer takes as long as for one that there is. No
// password has this hash.
const decoy = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// maxHashMemory bounds what a stored hash may make us spend, in KiB.
const maxHashMemory = 256 * 1024

// verifyPassword reports whether a password has the hash that a PHC string holds. An error means that the string is
// none of ours.
func verifyPassword(password, phc string) (bool, error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, errors.New("stored password hash is not argon2id in PHC form")
	}
	var memory, time uint32
	var lanes uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); err != nil {
		return false, fmt.Errorf("stored password hash has bad parameters: %w", err)
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil {
		return false, fmt.Errorf("stored password hash: %w", err)
	}
	if memory > maxHashMemory || time < 1 || time > 16 || lanes < 1 || len(want) < 16 || len(want) > 64 {
		return false, errors.New("stored password hash has parameters out of range")
	}
	got := argon2.IDKey([]byte(password), salt, time, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}
