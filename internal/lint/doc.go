// Package lint judges a certificate before a CA key signs it. It reads the exact bytes that are to be signed, compares
// them with what was decided, element by element, and applies what RFC 5280 and the key's type demand of them.
//
// It must never repair or guess: a byte that was not asked for is a refusal. It trusts the decision (a Want) to be
// permitted, since policy made it, and nothing of the code that built the certificate, the standard library's included:
// the bytes are read with a parser of its own, and nearly every value is encoded a second time here and compared.
//
// The door is Signer: x509.CreateCertificate hands the whole TBSCertificate to a crypto.MessageSigner, and no Signer
// signs anything else.
package lint
