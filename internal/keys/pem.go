package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds a private key in PEM: RSA-4096 needs less than four kilobytes.
const maxPEM = 64 << 10

// ParsePrivateKey reads one private key in PEM: PKCS #8, SEC 1 ("EC PRIVATE KEY", which openssl may precede by "EC
// PARAMETERS") or PKCS #1. What it returns signs and can be given to Vault.Import. Errors never show any of the
// input.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("private key has %d bytes, more than %d", len(text), maxPEM)
	}
	var found crypto.Signer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "EC PARAMETERS" {
			continue
		}
		if found != nil {
			return nil, errors.New("private key file has more than one PEM block; it must hold the private key alone")
		}
		key, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		found = key
	}
	if found == nil {
		return nil, errors.New("private key is not PEM of type PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY")
	}
	if _, err := Algorithm(found.Public()); err != nil {
		return nil, err
	}
	return signer{found}, nil
}

func parseBlock(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("private key is encrypted; decrypt it first (openssl pkcs8 -in FILE -out FILE)")
	}
	switch block.Type {
	case "PRIVATE KEY":
		return parsePKCS8(block.Bytes)
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("EC private key cannot be read")
		}
		return key, nil
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("RSA private key cannot be read")
		}
		return key, nil
	default:
		return nil, fmt.Errorf("PEM block of type %.40q is not a private key", block.Type)
	}
}

// parsePKCS8 hides the cause: an error of the parser may quote what it read.
func parsePKCS8(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("private key cannot be read as PKCS #8")
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	default:
		return nil, errors.New("private key is not one of ECDSA, RSA, Ed25519")
	}
}
